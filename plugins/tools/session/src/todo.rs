//! `TodoWrite`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use vteam_sdk::{Context, Outcome, ToolError, state};

/// Keeps the list of what is to do in this session, which the person sees too.
///
/// Give the whole list each time; it replaces the one before. Use it for work of three steps or more. Have exactly one
/// entry in progress while you work, and mark each as completed as soon as it is, not several together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TodoWrite {
    /// The whole list.
    todos: Vec<Todo>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Todo {
    /// What is to do: "Run the tests".
    #[schemars(length(min = 1))]
    content: String,
    status: Status,
    /// The same while it is being done: "Running the tests".
    #[schemars(length(min = 1))]
    active_form: String,
}

#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    InProgress,
    Completed,
}

pub(crate) fn todo_write(input: TodoWrite, _: &Context) -> Result<Outcome, ToolError> {
    state::set("todos", &input.todos)?;
    let lines: Vec<String> = input.todos.iter().map(Todo::line).collect();
    let done = input.todos.iter().filter(|t| t.status == Status::Completed).count();
    let busy = input.todos.iter().filter(|t| t.status == Status::InProgress).count();
    let mut text =
        format!("The list is kept ({done} of {} completed).\n{}", input.todos.len(), lines.join("\n"));
    if busy > 1 {
        text.push_str(&format!("\n{busy} entries are in progress: work on one at a time."));
    }
    Ok(Outcome::text(text.trim_end()).observe("todos", &json!(input.todos)))
}

impl Todo {
    fn line(&self) -> String {
        match self.status {
            Status::Pending => format!("[ ] {}", self.content),
            Status::InProgress => format!("[>] {}", self.active_form),
            Status::Completed => format!("[x] {}", self.content),
        }
    }
}
