//! The body of a Markdown persona: all of it is the system prompt, but for the section `## Analysis`.

use crate::persona::Mistake;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prompts {
    pub(crate) system: String,
    pub(crate) analysis: String,
}

/// `first` is the number of the body's first line.
pub(crate) fn prompts(first: usize, body: &[&str]) -> Result<Prompts, Mistake> {
    let (mut system, mut analysis) = (Vec::new(), Vec::new());
    let (mut heading, mut inside, mut fenced) = (None, false, false);
    for (index, line) in body.iter().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced && (line.starts_with("# ") || line.starts_with("## ")) {
            inside = line.trim_end() == "## Analysis";
            if inside {
                heading = Some(first + index);
                continue;
            }
        }
        if inside { &mut analysis } else { &mut system }.push(*line);
    }
    let Some(heading) = heading else {
        return Err(Mistake::new(first, "there is no section '## Analysis' with the prompt of an analysis"));
    };
    let text = |lines: Vec<&str>| lines.join("\n").trim().to_owned();
    let prompts = Prompts { system: text(system), analysis: text(analysis) };
    if prompts.system.is_empty() {
        return Err(Mistake::new(first, "there is no text outside '## Analysis': it is the system prompt"));
    }
    if !prompts.analysis.contains("{task}") {
        return Err(Mistake::new(heading, "the section '## Analysis' has no '{task}' where the task goes"));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_two_prompts() {
        let body =
            "\nYou are X.\n\n## Analysis\nLook at {task}.\n```\n## not a heading\n```\n\n## Style\nShort.\n";
        let found = prompts(9, &body.lines().collect::<Vec<_>>()).unwrap();
        assert_eq!(found.system, "You are X.\n\n## Style\nShort.");
        assert_eq!(found.analysis, "Look at {task}.\n```\n## not a heading\n```");
    }

    #[test]
    fn a_missing_part_is_named() {
        let check = |body: &str, line: usize, part: &str| {
            let mistake = prompts(9, &body.lines().collect::<Vec<_>>()).unwrap_err();
            assert!(mistake.line == line && mistake.message.contains(part), "{mistake}");
        };
        check("You are X.", 9, "no section");
        check("## Analysis\n{task}", 9, "no text outside");
        check("You.\n\n## Analysis\nLook.", 11, "{task}");
    }
}
