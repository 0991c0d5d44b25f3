//! Ways to the ports of pods through the API server, for who is outside of the network of pods.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use k8s_openapi::api::core::v1::Pod;
use kube::client::UpgradeConnectionError;
use kube::{Api, Client};
use shardwright_engine::{Dial, Dialled, Dialling, Unreachable};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Ways to the pods of one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Forwards {
    shared: Arc<Shared>,
}

struct Shared {
    api: Api<Pod>,
    namespace: String,
    /// The pods, by their address.
    pods: Mutex<BTreeMap<IpAddr, String>>,
    denied: OnceLock<String>,
}

impl fmt::Debug for Forwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards")
            .field("namespace", &self.shared.namespace)
            .finish_non_exhaustive()
    }
}

impl Forwards {
    /// Ways to the pods of this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            shared: Arc::new(Shared {
                api: Api::namespaced(client, namespace),
                namespace: namespace.to_owned(),
                pods: Mutex::default(),
                denied: OnceLock::new(),
            }),
        }
    }

    /// Says that we may not open ways at all, once that has shown.
    pub fn denied(&self) -> Option<&str> {
        self.shared.denied.get().map(String::as_str)
    }

    /// Where the pods are from now on.
    pub(crate) fn set_pods(&self, pods: BTreeMap<IpAddr, String>) {
        *self.pods() = pods;
    }

    /// Opens a way to this port of the pod at this address. It opens whether or not something listens there.
    pub(crate) async fn open(&self, ip: IpAddr, port: u16) -> Result<Forwarded, Unreachable> {
        let pod = self.pods().get(&ip).cloned();
        let pod =
            pod.ok_or_else(|| Unreachable::Other(format!("no pod of it has the address {ip}")))?;
        let opened = self.shared.api.portforward(&pod, &[port]).await;
        let mut forwarder = opened.map_err(|error| self.refused(&error))?;
        let (stream, error) = (forwarder.take_stream(port), forwarder.take_error(port));
        let (Some(stream), Some(error)) = (stream, error) else {
            let why = "the API server opened no way to this port";
            return Err(Unreachable::Other(why.to_owned()));
        };
        Ok(Forwarded {
            stream,
            error: Some(Box::pin(error)),
        })
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<IpAddr, String>> {
        // A map is whole whatever panicked while it was held.
        self.shared
            .pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, error: &kube::Error) -> Unreachable {
        let code = match error {
            kube::Error::Api(status) => Some(status.code),
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
                Some(code.as_u16())
            }
            _ => None,
        };
        let namespace = &self.shared.namespace;
        let why = match code {
            Some(403 | 401) => {
                let text = format!(
                    "the API server lets you open no port-forward to pods in {namespace}; ask for the rights \
                     get and create on pods/portforward there"
                );
                self.shared.denied.get_or_init(|| text.clone());
                text
            }
            _ => format!("the API server opened no port-forward: {error}"),
        };
        Unreachable::Other(why)
    }
}

impl Dial for Forwards {
    fn dial<'a>(&'a self, endpoint: &'a shardwright_engine::Endpoint) -> Dialling<'a> {
        Box::pin(async move {
            let ip: IpAddr = endpoint
                .host
                .parse()
                .map_err(|_| Unreachable::Name("pods are known by their addresses".to_owned()))?;
            let stream = self.open(ip, endpoint.port).await?;
            Ok(Dialled {
                stream: Box::new(stream),
                peer: SocketAddr::from((ip, endpoint.port)),
            })
        })
    }
}

type Said = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// The bytes of one way, and what the kubelet says when it could not lay it.
pub(crate) struct Forwarded {
    stream: DuplexStream,
    error: Option<Said>,
}

impl Forwarded {
    /// What the kubelet said, if it has said anything.
    fn said(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let said = match self.error.as_mut()?.as_mut().poll(cx) {
            Poll::Pending => return None,
            Poll::Ready(said) => said,
        };
        self.error = None;
        said.map(|said| io::Error::new(kind(&said), said))
    }
}

/// The kubelet connects inside of the pod: when it is refused there, nothing listens.
fn kind(said: &str) -> io::ErrorKind {
    if said.to_ascii_lowercase().contains("connection refused") {
        io::ErrorKind::ConnectionRefused
    } else {
        io::ErrorKind::Other
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.said(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let at_end = buffer.filled().len() == before && buffer.remaining() > 0;
        match poll {
            // Its word may have come with the end.
            Poll::Ready(Ok(())) if at_end => Poll::Ready(self.said(cx).map_or(Ok(()), Err)),
            other => other,
        }
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn way(said: Option<&str>) -> (Forwarded, DuplexStream) {
        let (stream, far) = duplex(64);
        let said = said.map(str::to_owned);
        let error: Option<Said> = Some(match said {
            Some(said) => Box::pin(async move { Some(said) }),
            None => Box::pin(std::future::pending()),
        });
        (Forwarded { stream, error }, far)
    }

    #[tokio::test]
    async fn bytes_pass_and_an_end_is_an_end() {
        let (mut way, mut far) = way(None);
        far.write_all(b"+PONG").await.expect("there is room");
        drop(far);
        let mut got = Vec::new();
        way.read_to_end(&mut got).await.expect("an orderly end");
        assert_eq!(got, b"+PONG");
    }

    #[tokio::test]
    async fn a_refusal_in_the_pod_is_told_from_any_other_failure() {
        let refused = "failed to connect to localhost:6379: dial tcp4 127.0.0.1:6379: connect: connection refused";
        for (said, kind) in [
            (refused, io::ErrorKind::ConnectionRefused),
            ("pod is not running", io::ErrorKind::Other),
        ] {
            let (mut way, _far) = way(Some(said));
            let error = way.read_u8().await.expect_err(said);
            assert_eq!(error.kind(), kind, "{said}");
        }
    }
}
