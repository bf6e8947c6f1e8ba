//! Components that behave and misbehave, one behaviour per example, for the tests of the engine.
//!
//! [`guest!`] makes one: what it says of itself and what its one tool does. Exports exist only on WebAssembly, so that
//! the workspace builds natively.

#[cfg(target_os = "wasi")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.1",
        world: "tool-plugin",
        pub_export_macro: true,
        export_macro_name: "export_tool",
        default_bindings_module: "guests::bindings",
        generate_all,
    });
}

/// A tool component: `guest!("name", ["effect", ...], |input, context| ...)`. The tool is called `Try`.
#[macro_export]
macro_rules! guest {
    ($name:literal, [$($effect:literal),*], $call:expr) => {
        #[cfg(target_os = "wasi")]
        mod component {
            #[allow(unused_imports, reason = "each guest uses some")]
            use super::*;
            use $crate::bindings::exports::vteam::plugin::tool::{Guest, Outcome, ToolError};
            use $crate::bindings::vteam::plugin::types::Context;

            struct Component;

            impl Guest for Component {
                fn describe() -> String {
                    let effects: &[&str] = &[$($effect),*];
                    let list: Vec<String> = effects.iter().map(|e| format!("{e:?}")).collect();
                    let asks: Vec<String> =
                        effects.iter().map(|e| format!(r#"{{"effect":{e:?},"reason":"the test wants it"}}"#)).collect();
                    format!(
                        r#"{{"manifest":1,"id":"test.{}","version":"0.1.0","kind":"tool","description":"A guest of the tests",
                        "tools":[{{"name":"Try","description":"Tries it","inputSchema":{{"type":"object"}},"effects":[{}]}}],
                        "asks":[{}]}}"#,
                        $name, list.join(","), asks.join(",")
                    )
                }

                fn call(_tool: String, input: String, context: Context) -> Result<Outcome, ToolError> {
                    let call: fn(&str, Context) -> Result<Outcome, ToolError> = $call;
                    call(&input, context)
                }
            }

            $crate::bindings::export_tool!(Component with_types_in $crate::bindings);
        }
    };
}

#[cfg(target_os = "wasi")]
pub use said::*;

#[cfg(target_os = "wasi")]
mod said {
    use crate::bindings::{
        exports::vteam::plugin::tool::{Done, NeedsInput, Outcome, ToolError},
        vteam::plugin::types::{Content, Denial},
    };

    /// # Errors
    /// Never; guests return it as it is.
    pub fn done(text: impl Into<String>) -> Result<Outcome, ToolError> {
        Ok(Outcome::Done(Done { content: vec![Content::Text(text.into())], observations: Vec::new() }))
    }

    /// # Errors
    /// Never; guests return it as it is.
    pub fn needs_input(request: impl Into<String>, state: Vec<u8>) -> Result<Outcome, ToolError> {
        Ok(Outcome::NeedsInput(NeedsInput { request: request.into(), state }))
    }

    /// # Errors
    /// Always.
    pub fn denied(denial: Denial) -> Result<Outcome, ToolError> {
        Err(ToolError::Denied(denial))
    }

    /// # Errors
    /// Always.
    pub fn failed(error: impl std::fmt::Debug) -> Result<Outcome, ToolError> {
        Err(ToolError::Failed(format!("{error:?}")))
    }
}
