//! What `bindgen!` makes of `wit/plugin-0.1`, one module per world.

#![allow(unreachable_pub, reason = "generated")]

pub(crate) mod tool {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin-0.1",
        world: "tool-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "vteam:plugin/process.child": crate::link::process::ChildHandle },
    });
}

pub(crate) mod persona {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin-0.1",
        world: "persona-plugin",
        exports: { default: async },
    });
}
