//! The few calls and messages of containerd's gRPC API that are used, by the field numbers of its published definitions
//! (`containerd/api/services`, stable since 1.0). Written by hand, since building them from there would take `protoc`.

use std::collections::HashMap;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// What kind of message it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `containerd.services.containers.v1.Container`, in part.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its labels.
    #[prost(map = "string, string", tag = "2")]
    pub labels: HashMap<String, String>,
    /// The image that it was made from.
    #[prost(string, tag = "3")]
    pub image: String,
    /// Its specification, JSON.
    #[prost(message, optional, tag = "5")]
    pub spec: Option<Any>,
}

/// `containerd.types.Envelope`, in part.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// The namespace that it is about.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// What has happened.
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

/// `ContainerCreate`, `ContainerUpdate` and `ContainerDelete`: each has the id first.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Filters {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct OneContainer {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

/// The names of every namespace.
pub(super) async fn namespaces(channel: &Channel) -> Result<Vec<String>, Status> {
    const PATH: &str = "/containerd.services.namespaces.v1.Namespaces/List";
    let told: Namespaces = call(channel, PATH, Request::new(Nothing {})).await?;
    Ok(told.namespaces.into_iter().map(|namespace| namespace.name).collect())
}

/// Every container of a namespace.
pub(super) async fn containers(channel: &Channel, namespace: &str) -> Result<Vec<Container>, Status> {
    const PATH: &str = "/containerd.services.containers.v1.Containers/List";
    let told: Containers = call(channel, PATH, within(namespace, Filters::default())?).await?;
    Ok(told.containers)
}

/// One container of a namespace.
pub(super) async fn container(channel: &Channel, namespace: &str, id: &str) -> Result<Option<Container>, Status> {
    const PATH: &str = "/containerd.services.containers.v1.Containers/Get";
    let told: OneContainer = call(channel, PATH, within(namespace, Named { id: id.to_owned() })?).await?;
    Ok(told.container)
}

/// What happens to containers from now on, in every namespace.
pub(super) async fn events(channel: &Channel) -> Result<Streaming<Envelope>, Status> {
    const PATH: &str = "/containerd.services.events.v1.Events/Subscribe";
    let mut client = ready(channel).await?;
    let filters = Filters { filters: vec![r#"topic~="^/containers/""#.to_owned()] };
    let codec = ProstCodec::<Filters, Envelope>::default();
    Ok(client.server_streaming(Request::new(filters), PathAndQuery::from_static(PATH), codec).await?.into_inner())
}

/// The id of the container that an event is about.
pub(super) fn id_of(event: &Envelope) -> Option<String> {
    let named = Named::decode(event.event.as_ref()?.value.as_slice()).ok()?;
    (!named.id.is_empty()).then_some(named.id)
}

#[cfg(test)]
pub(super) fn event(namespace: &str, topic: &str, id: &str) -> Envelope {
    let value = Named { id: id.to_owned() }.encode_to_vec();
    let event = Some(Any { type_url: String::new(), value });
    Envelope { namespace: namespace.to_owned(), topic: topic.to_owned(), event }
}

/// Namespaces go beside the message, in a header.
fn within<T>(namespace: &str, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(namespace).map_err(|_| Status::invalid_argument("an odd namespace"))?;
    request.metadata_mut().insert("containerd-namespace", value);
    Ok(request)
}

async fn call<A, B>(channel: &Channel, path: &'static str, request: Request<A>) -> Result<B, Status>
where
    A: Message + Send + Sync + 'static,
    B: Message + Default + Send + Sync + 'static,
{
    let mut client = ready(channel).await?;
    let codec = ProstCodec::<A, B>::default();
    Ok(client.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client)
}

/// Largest message that is taken, bytes: a list of some thousand containers with their specifications.
const MAX_MESSAGE: usize = 64 << 20;
