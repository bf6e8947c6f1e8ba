#!/usr/bin/env bash
# Prints a title as it stands in an address: "Hello, World!" becomes hello-world.

slugify() {
  local text=${1,,}
  text=${text//[^a-z0-9]/-}
  printf '%s\n' "$text"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  slugify "$*"
fi
