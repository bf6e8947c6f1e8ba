//! Prompts with gaps.

use alloc::string::String;

/// Puts the task and its context where the template says; what is put in is not looked at again.
#[must_use]
pub fn fill(template: &str, task: &str, context: &str) -> String {
    let mut out = String::with_capacity(template.len() + task.len() + context.len());
    let mut parts = template.split('{');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (value, after) = match part.strip_prefix("task}") {
            Some(after) => (task, after),
            None => part.strip_prefix("context}").map_or(("{", part), |after| (context, after)),
        };
        out.push_str(value);
        out.push_str(after);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn gaps_are_filled_once() {
        let check =
            |template: &str, expected: &str| assert_eq!(super::fill(template, "T{context}", "C"), expected);
        check("do {task} with {context}.", "do T{context} with C.");
        check("{task}{task}", "T{context}T{context}");
        check("{ {\"a\":1} {tas}", "{ {\"a\":1} {tas}");
        check("", "");
    }
}
