#!/usr/bin/env bash
# Run it with: bash test.sh

source ./slug.sh

failed=0
check() {
  local got
  got=$(slugify "$1")
  if [[ $got == "$2" ]]; then
    echo "ok    '$1' -> $got"
  else
    echo "FAIL  '$1' -> $got, expected $2"
    failed=$((failed + 1))
  fi
}

check "hello" "hello"
check "Hello World" "hello-world"
check "Hello, World!" "hello-world"
check "  Rust & WebAssembly  " "rust-webassembly"

if ((failed)); then
  echo "$failed of 4 failed"
  exit 1
fi
echo "4 of 4 passed"
