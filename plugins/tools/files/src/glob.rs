//! The few patterns that `LS` ignores by: `*`, `?` and `**` over a name or a path.

/// Whether a pattern fits an entry. A pattern without `/` is held against the name, one with `/` against the path from
/// the listed folder.
pub(crate) fn fits(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_end_matches('/');
    if pattern.contains('/') {
        let pattern = pattern.trim_start_matches("./").trim_start_matches('/');
        return matches(&pattern.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
}

fn matches(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], rest) => rest.is_empty(),
        (['*', '*', '/', more @ ..], _) => {
            matches(more, text)
                || text
                    .iter()
                    .position(|c| *c == '/')
                    .is_some_and(|at| text.get(at + 1..).is_some_and(|rest| matches(pattern, rest)))
        }
        (['*', '*'], _) => true,
        (['*', more @ ..], _) => {
            matches(more, text)
                || text.split_first().is_some_and(|(c, rest)| *c != '/' && matches(pattern, rest))
        }
        (['?', more @ ..], [c, rest @ ..]) => *c != '/' && matches(more, rest),
        ([p, more @ ..], [c, rest @ ..]) => p == c && matches(more, rest),
        (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_and_paths() {
        let check = |pattern: &str, path: &str, expected: bool| {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}")
        };
        check("*.rs", "src/a.rs", true);
        check("*.rs", "src/a.rsx", false);
        check("node_modules", "web/node_modules", true);
        check("target/", "target", true);
        check("src/*", "src/a", true);
        check("src/*", "src/a/b", false);
        check("src/**", "src/a/b", true);
        check("**/b", "src/a/b", true);
        check("**/b", "b", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
    }
}
