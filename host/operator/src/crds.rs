//! The CustomResourceDefinitions, made of the types in `resources`; a copy is kept in `manifests/crds`.
//!
//! What people may write is decided there. Here stands what only a cluster asks for: names, printer columns, and the form
//! that its API server takes a schema in.

mod kinds;
mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation,
};
use kinds::{Column, KINDS, Kind};
use kube::core::ObjectMeta;

/// Why a definition cannot be made: a type in `resources` has a schema that Kubernetes has no words for.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    #[error("the schema of {0} is none that Kubernetes knows")]
    Schema(&'static str, #[source] serde_json::Error),
    #[error("a definition cannot be written as YAML")]
    Yaml(#[source] serde_saphyr::ser::Error),
}

/// All definitions, always in the same order.
///
/// # Errors
/// [`CrdError::Schema`].
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    KINDS.iter().map(definition).collect()
}

/// One document, beginning with `---`.
///
/// # Errors
/// [`CrdError::Yaml`].
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, CrdError> {
    let text = serde_saphyr::to_string(definition).map_err(CrdError::Yaml)?;
    Ok(format!("---\n# Written by `cargo xtask codegen` from the types in host/resources.\n{text}"))
}

fn definition(kind: &Kind) -> Result<CustomResourceDefinition, CrdError> {
    let (group, version) = resources::API_VERSION.split_once('/').unwrap_or((resources::API_VERSION, ""));
    let schema = schema::object((kind.spec)(), (kind.status)(), &(kind.rules)(), kind.about);
    let schema = serde_json::from_value(schema).map_err(|error| CrdError::Schema(kind.kind, error))?;
    let names = CustomResourceDefinitionNames {
        kind: kind.kind.to_owned(),
        list_kind: Some(format!("{}List", kind.kind)),
        singular: Some(kind.singular.to_owned()),
        plural: kind.plural.to_owned(),
        short_names: Some(vec![kind.short.to_owned()]),
        categories: Some(vec!["vteam".to_owned()]),
    };
    let version = CustomResourceDefinitionVersion {
        name: version.to_owned(),
        served: true,
        storage: true,
        additional_printer_columns: Some(kind.columns.iter().map(column).collect()),
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema) }),
        subresources: Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
            scale: None,
        }),
        ..Default::default()
    };
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("{}.{group}", kind.plural)), ..Default::default() },
        spec: CustomResourceDefinitionSpec {
            group: group.to_owned(),
            names,
            scope: "Namespaced".to_owned(),
            versions: vec![version],
            ..Default::default()
        },
        status: None,
    })
}

fn column(column: &Column) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: column.name.to_owned(),
        json_path: column.path.to_owned(),
        type_: column.kind.to_owned(),
        description: Some(column.about.to_owned()),
        priority: Some(i32::from(column.wide)),
        format: None,
    }
}

#[cfg(test)]
mod tests;
