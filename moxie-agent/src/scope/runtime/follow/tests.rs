//! Tests of following a runtime that comes, goes and talks nonsense.

use std::path::PathBuf;
use std::sync::Mutex;

use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::super::docker::DockerLike;
use super::*;
use crate::scope::container::Container;
use crate::scope::registry::tests::paper_scopes;

const ID: &str = "3f4e9b0c1d2a3f4e9b0c1d2a3f4e9b0c1d2a3f4e9b0c1d2a3f4e9b0c1d2a3f4e";

/// Waits for a condition, with a deadline.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Serves a socket: each connection is answered with `answer` of what was asked, then closed.
fn serve(socket: &std::path::Path, answer: fn(&str) -> String) -> JoinHandle<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut asked = vec![0; 4096];
                let length = stream.read(&mut asked).await.unwrap_or(0);
                let answer = answer(&String::from_utf8_lossy(&asked[..length]));
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.contains("chunked") {
                    // A stream of events stays open.
                    std::future::pending::<()>().await;
                }
            });
        }
    })
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A Docker with one container.
fn sound(asked: &str) -> String {
    let line = asked.lines().next().unwrap_or_default();
    if line.contains("/version") {
        ok(r#"{"ApiVersion": "1.41", "Version": "20.10"}"#)
    } else if line.contains("/containers/json") {
        ok(&format!(r#"[{{"Id": "{ID}", "Names": ["/shop"], "Image": "shop:1", "Labels": {{"a": "b"}}}}]"#))
    } else {
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".into()
    }
}

#[tokio::test]
async fn the_last_that_was_told_holds_while_a_runtime_is_down_or_talks_nonsense() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let (scopes, stop) = (paper_scopes(), Drain::new());
    let runtime = Arc::new(Counted { docker: DockerLike::docker(socket.clone()), tries: Mutex::default() });
    spawn(runtime.clone(), Arc::clone(&scopes), &stop);
    // A host without Docker is no trouble. What came of one attempt has been told when the next begins.
    until("two attempts", || *runtime.tries.lock().unwrap() >= 2).await;
    assert!(scopes.warnings().is_empty(), "{:?}", scopes.warnings());
    let knows = || scopes.containers.known().knows(ID);

    let first = serve(&socket, sound);
    until("the container is known", knows).await;
    first.abort();
    let _ = first.await;
    // What was accepted goes on; a new server takes the place of the old.
    type Answer = fn(&str) -> String;
    let nonsense: [Answer; 4] = [
        |_| "220 mail.example ESMTP\r\n".into(),
        |_| ok("{]"),
        |_| ok(r#"{"ApiVersion": "1.41", "message": "x"}"#),
        |_| "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into(),
    ];
    for answer in nonsense {
        let (scopes, stop) = (paper_scopes(), Drain::new());
        scopes.told_all("docker", vec![Container { id: ID.into(), ..Container::default() }]);
        let server = serve(&socket, answer);
        spawn(Arc::new(DockerLike::docker(socket.clone())), Arc::clone(&scopes), &stop);
        until("it is said", || scopes.warnings().iter().any(|warning| warning.starts_with("docker does not tell")))
            .await;
        assert!(scopes.containers.known().knows(ID));
        server.abort();
        let _ = server.await;
        let server = serve(&socket, sound);
        until("all is well again", || scopes.warnings().is_empty()).await;
        server.abort();
        let _ = server.await;
        assert!(stop.finish(Duration::from_secs(10)).await);
    }
    assert!(stop.finish(Duration::from_secs(10)).await);
}

/// Docker, and how often it was tried to listen to it.
#[derive(Debug)]
struct Counted {
    docker: DockerLike,
    tries: Mutex<u32>,
}

#[async_trait::async_trait]
impl Runtime for Counted {
    fn name(&self) -> &'static str {
        self.docker.name()
    }
    fn socket(&self) -> &std::path::Path {
        self.docker.socket()
    }
    async fn changes(
        &self,
        since: Timestamp,
    ) -> Result<BoxStream<'static, Result<Change, RuntimeError>>, RuntimeError> {
        *self.tries.lock().unwrap() += 1;
        self.docker.changes(since).await
    }
    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.docker.list().await
    }
    async fn find(&self, id: &str) -> Result<Option<Container>, RuntimeError> {
        self.docker.find(id).await
    }
}

/// A runtime whose stream ends at once, the second time with a change before.
#[derive(Debug, Default)]
struct Restless {
    lists: Mutex<u32>,
}

#[async_trait::async_trait]
impl Runtime for Restless {
    fn name(&self) -> &'static str {
        "restless"
    }
    fn socket(&self) -> &std::path::Path {
        std::path::Path::new("/nowhere")
    }
    async fn changes(&self, _: Timestamp) -> Result<BoxStream<'static, Result<Change, RuntimeError>>, RuntimeError> {
        let told = Change::Told(Container { id: ID.into(), ..Container::default() });
        let ended = RuntimeError::Ended { socket: PathBuf::new() };
        Ok(stream::iter([Ok(told), Ok(Change::Touched("asked".into())), Err(ended)]).boxed())
    }
    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        *self.lists.lock().unwrap() += 1;
        Ok(Vec::new())
    }
    async fn find(&self, id: &str) -> Result<Option<Container>, RuntimeError> {
        Ok(Some(Container { id: id.to_owned(), ..Container::default() }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_begun_again_with_growing_pauses() {
    let (scopes, stop, runtime) = (paper_scopes(), Drain::new(), Arc::new(Restless::default()));
    spawn(runtime.clone(), Arc::clone(&scopes), &stop);
    until("three connections", || *runtime.lists.lock().unwrap() >= 3).await;
    until("it is said", || scopes.warnings().iter().any(|warning| warning.contains("ended its stream"))).await;
    until("both are known", || scopes.containers.known().knows(ID) && scopes.containers.known().knows("asked")).await;
    assert!(stop.finish(Duration::from_secs(10)).await);
}
