//! The OpenAPI document, made from the routes themselves. A copy is kept in `docs/openapi.json`.

use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, SecurityRequirement,
    security::{Http, HttpAuthScheme, SecurityScheme},
};

/// The document as JSON, ending with a line break; the same for the same routes.
#[must_use]
pub fn document() -> String {
    let (_, mut api) = crate::api::documented();
    api.info = InfoBuilder::new()
        .title("vteam")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Agentic sessions: a host that runs everything an agent can do as WebAssembly components.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").build()))
        .build();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    api.components.get_or_insert_default().add_security_scheme("token", bearer);
    api.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    api.to_pretty_json().unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_copy_is_this_one() {
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let kept = std::fs::read_to_string(kept).unwrap_or_default();
        assert!(kept == super::document(), "docs/openapi.json is not up to date: run `cargo xtask codegen`");
    }
}
