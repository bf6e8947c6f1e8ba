//! What a plugin is: its own account of itself, and tools with typed input.

use crate::{
    Context, Outcome, ToolError,
    bindings::exports::vteam::plugin::tool::Guest,
    schema::{self, InputSchema},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Implemented once per component; see [`export!`](crate::export).
pub trait Plugin {
    fn info() -> PluginInfo;
}

/// What a call may need of the host. A plugin asks for it, a tool declares it, policy grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    FsRead,
    FsWrite,
    Process,
    NetFetch,
    State,
    Model,
}

impl Effect {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FsRead => "fs.read",
            Self::FsWrite => "fs.write",
            Self::Process => "process",
            Self::NetFetch => "net.fetch",
            Self::State => "state",
            Self::Model => "model",
        }
    }
}

/// The manifest, and the functions behind it.
pub struct PluginInfo {
    id: &'static str,
    version: &'static str,
    description: &'static str,
    asks: Vec<(Effect, &'static str)>,
    tools: Vec<Tool>,
    settings: Option<fn() -> InputSchema>,
    memory_bytes: Option<u64>,
}

impl PluginInfo {
    /// `id` is `publisher.name`; `version` is semantic, usually `env!("CARGO_PKG_VERSION")`; `description` is one line.
    #[must_use]
    pub const fn new(id: &'static str, version: &'static str, description: &'static str) -> Self {
        Self {
            id,
            version,
            description,
            asks: Vec::new(),
            tools: Vec::new(),
            settings: None,
            memory_bytes: None,
        }
    }

    /// Asks for an effect; the reason is for the person who decides.
    #[must_use]
    pub fn ask(mut self, effect: Effect, reason: &'static str) -> Self {
        self.asks.push((effect, reason));
        self
    }

    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// The shape of the plugin's settings; read them with [`config`](crate::config).
    #[must_use]
    pub fn settings<S: JsonSchema>(mut self) -> Self {
        self.settings = Some(schema::of::<S>);
        self
    }

    /// Lowers the ceiling of a call's memory.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// The manifest's body.
    pub(crate) fn describe(&self) -> Value {
        let asks = self.asks.iter().map(|(e, reason)| json!({"effect": e.name(), "reason": reason}));
        let mut manifest = json!({
            "manifest": 1,
            "id": self.id,
            "version": self.version,
            "kind": "tool",
            "description": self.description,
            "tools": self.tools.iter().map(Tool::describe).collect::<Vec<_>>(),
            "asks": asks.collect::<Vec<_>>(),
        });
        if let (Some(settings), Some(object)) = (self.settings, manifest.as_object_mut()) {
            object.insert("settings".to_owned(), settings().schema);
        }
        if let (Some(bytes), Some(object)) = (self.memory_bytes, manifest.as_object_mut()) {
            object.insert("limits".to_owned(), json!({"memoryBytes": bytes}));
        }
        manifest
    }

    pub(crate) fn call(&self, tool: &str, input: &str, context: &Context) -> Result<Outcome, ToolError> {
        match self.tools.iter().find(|t| t.name == tool) {
            Some(found) => (found.run)(input, context),
            None => Err(ToolError::InvalidInput(format!("{} has no tool {tool:?}", self.id))),
        }
    }
}

type Run = Box<dyn Fn(&str, &Context) -> Result<Outcome, ToolError>>;

/// One tool.
pub struct Tool {
    name: &'static str,
    schema: fn() -> InputSchema,
    effects: Vec<Effect>,
    parallel: bool,
    run: Run,
}

impl Tool {
    /// `name` is what the model calls it. The doc comment of the input type is what the model reads of the tool, the doc
    /// comments of its fields what it reads of each parameter.
    pub fn new<I>(name: &'static str, run: fn(I, &Context) -> Result<Outcome, ToolError>) -> Self
    where
        I: DeserializeOwned + JsonSchema + 'static,
    {
        let run = move |input: &str, context: &Context| match serde_json::from_str(input) {
            Ok(input) => run(input, context),
            Err(error) => Err(ToolError::InvalidInput(error.to_string())),
        };
        Self { name, schema: schema::of::<I>, effects: Vec::new(), parallel: false, run: Box::new(run) }
    }

    /// What its calls need. Anything else is denied to them, even where the plugin was granted it for another tool.
    #[must_use]
    pub fn effects(mut self, effects: &[Effect]) -> Self {
        self.effects.extend_from_slice(effects);
        self
    }

    /// Its calls may overlap with others that say so too.
    #[must_use]
    pub const fn parallel(mut self) -> Self {
        self.parallel = true;
        self
    }

    fn describe(&self) -> Value {
        let InputSchema { description, schema } = (self.schema)();
        json!({
            "name": self.name,
            "description": description,
            "inputSchema": schema,
            "effects": self.effects.iter().map(|e| e.name()).collect::<Vec<_>>(),
            "parallel": self.parallel,
        })
    }
}

impl<P: Plugin> Guest for P {
    fn describe() -> String {
        P::info().describe().to_string()
    }

    fn call(tool: String, input: String, context: Vec<(String, String)>) -> Result<Outcome, ToolError> {
        P::info().call(&tool, &input, &Context::new(context))
    }
}
