//! The OpenAPI document, made of the route table and of the words in [`super::api`].

use std::collections::BTreeMap;

use axum::Json;
use utoipa::ToSchema;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{
    Content, HttpMethod, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};

use super::api;
use super::routes::{Answer, Route, table};
use super::work::LINES;

const JSON: &str = "application/json";

/// A schema, and the named ones that it refers to.
#[derive(Clone)]
pub(super) struct Shape {
    schema: RefOr<Schema>,
    named: Vec<(String, RefOr<Schema>)>,
}

impl Shape {
    /// `T`, by reference.
    pub(super) fn of<T: ToSchema>() -> Self {
        let name = T::name().into_owned();
        let schema = Ref::from_schema_name(&name).into();
        let mut named = vec![(name, T::schema())];
        T::schemas(&mut named);
        Self { schema, named }
    }

    /// An array of `T`.
    pub(super) fn list_of<T: ToSchema>() -> Self {
        let Self { schema, named } = Self::of::<T>();
        Self { schema: ArrayBuilder::new().items(schema).into(), named }
    }

    /// `A` or `B`.
    pub(super) fn either<A: ToSchema, B: ToSchema>() -> Self {
        let (a, b) = (Self::of::<A>(), Self::of::<B>());
        let schema = OneOfBuilder::new().item(a.schema).item(b.schema).into();
        Self { schema, named: [a.named, b.named].concat() }
    }

    /// A JSON object of which no more is said here.
    pub(super) fn any() -> Self {
        Self { schema: ObjectBuilder::new().schema_type(Type::Object).into(), named: Vec::new() }
    }

    /// An array of such objects.
    pub(super) fn list_of_any() -> Self {
        let Self { schema, named } = Self::any();
        Self { schema: ArrayBuilder::new().items(schema).into(), named }
    }

    fn content(&self) -> Content {
        Content::new(Some(self.schema.clone()))
    }
}

/// `GET /openapi.json`
pub(super) async fn serve() -> Json<OpenApi> {
    Json(document())
}

/// The whole document.
fn document() -> OpenApi {
    let table = table();
    let failure = Shape::of::<api::Failure>();
    let mut paths = Paths::new();
    let mut named = BTreeMap::new();
    for route in &table {
        paths.add_path_operation(route.path, vec![method(route)], operation(route, &failure));
        for shape in shapes(route).chain([&failure]) {
            named.extend(shape.named.iter().cloned());
        }
    }
    OpenApiBuilder::new()
        .info(Info::new("envol control API", env!("CARGO_PKG_VERSION")))
        .paths(paths)
        .components(Some(ComponentsBuilder::new().schemas_from_iter(named).build()))
        .build()
}

fn shapes(route: &Route) -> impl Iterator<Item = &Shape> {
    let answered = match &route.answers {
        Answer::Empty => None,
        Answer::Document(shape) | Answer::Lines(shape) => Some(shape),
    };
    route.takes.iter().chain(answered)
}

fn method(route: &Route) -> HttpMethod {
    match route.method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(route: &Route, failure: &Shape) -> utoipa::openapi::path::Operation {
    let (status, answer) = answer(&route.answers);
    let refusal = ResponseBuilder::new().description("What failed, and what to do about it.");
    OperationBuilder::new()
        .operation_id(Some(operation_id(route)))
        .summary(Some(route.summary))
        .parameters(Some(parameters(route)))
        .request_body(route.takes.as_ref().map(body))
        .response(status, answer)
        .response("default", refusal.content(JSON, failure.content()).build())
        .build()
}

/// Such as `post_volumes_volume_attach`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty() && *word != "v1");
    words.fold(route.method.as_str().to_ascii_lowercase(), |id, word| id + "_" + word)
}

/// What stands in braces in the path, and what may stand in the query.
fn parameters(route: &Route) -> Vec<Parameter> {
    let parameter = |name: &str, place, required, of| {
        let schema = ObjectBuilder::new().schema_type(of);
        ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema)).build()
    };
    let in_path = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| parameter(name, ParameterIn::Path, Required::True, Type::String));
    let flag = route.flag.map(|name| parameter(name, ParameterIn::Query, Required::False, Type::Boolean));
    let words = route.words.iter().map(|name| parameter(name, ParameterIn::Query, Required::False, Type::String));
    in_path.chain(flag).chain(words).collect()
}

fn body(shape: &Shape) -> RequestBody {
    RequestBodyBuilder::new().content(JSON, shape.content()).required(Some(Required::True)).build()
}

fn answer(answer: &Answer) -> (&'static str, Response) {
    let done = ResponseBuilder::new().description("Done.");
    match answer {
        Answer::Empty => ("204", done.build()),
        Answer::Document(shape) => ("200", done.content(JSON, shape.content()).build()),
        Answer::Lines(shape) => (
            "200",
            ResponseBuilder::new().description("Begun; a line for each step.").content(LINES, shape.content()).build(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Every `$ref` in `value`.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(document()).expect("serialises");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn no_two_operations_share_an_id() {
        let mut ids: Vec<String> = table().iter().map(operation_id).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }
}
