//! Generated from the contract; the one place where guest code meets raw memory.

wit_bindgen::generate!({
    path: "../../wit/plugin-0.1",
    world: "tool-plugin",
    pub_export_macro: true,
    export_macro_name: "export_tool",
    default_bindings_module: "vteam_sdk::bindings",
});
