//! One connection to a broker: how it is made within a time, over TLS or not, and what it means when that fails.
//!
//! | what went wrong                                        | is it tried again |
//! |--------------------------------------------------------|-------------------|
//! | nobody there, no such name now, too slow, cut off      | yes               |
//! | wrong user or password, no such virtual host, TLS that is not trusted, not AMQP | at the first time no; afterwards yes: a broker that is being restarted may say so |
//!
//! Not here: what is said over it (`post.rs`, `shift.rs`). The rule: no step is without a limit of time, and no word
//! of a password gets into an error.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_rs::Tokio;
use async_rs::traits::Reactor;
use futures_rustls::TlsConnector;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::kit::{Kit, Stream};
use crate::error::Error;

/// Where a broker is, and how it is talked to.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    tls: Option<Arc<ClientConfig>>,
    /// How long it may take to get there.
    pub(super) limit: Duration,
    /// What the connection is called in the broker's lists.
    pub(super) name: String,
}

impl Address {
    /// `tls`: whom to trust, and who we are; where the URL says `amqps`.
    pub(super) fn new(
        url: &str,
        tls: &Tls,
        name: String,
        limit: Duration,
        heartbeat: Duration,
    ) -> Result<Self, Error> {
        let mut uri: AMQPUri = url.parse().map_err(|reason: String| {
            Error::invalid(
                format!("the URL of the broker cannot be read: {reason}"),
                "give one such as amqp://user:password@host:5672/vhost, with a `%2f` for each `/` inside a name",
            )
        })?;
        let seconds = u16::try_from(heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
        uri.query.heartbeat.get_or_insert(seconds);
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(Arc::new(tls.config()?)),
        };
        Ok(Address { uri, tls, limit, name })
    }

    /// An error about this broker.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Broker { broker: self.to_string(), reason: reason.into() }
    }

    /// Connects, in the runtime of this thread.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let (handle, limit) = (Handle::current(), self.limit);
        let (address, own) = (self.clone(), handle.clone());
        // It runs on a thread of lapin's, which does not hear of it when it is not waited for any more: its limit is its own.
        let open = async move |_: AMQPUri, _| {
            let address = address.clone();
            let opened = own.spawn(async move { timeout(limit, address.open()).await });
            let opened = opened.await.map_err(io::Error::other)?;
            Ok(AsyncTcpStream::Plain(opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?))
        };
        let properties = ConnectionProperties::default().with_connection_name(self.name.clone().into());
        let connecting = Connection::connector(self.uri.clone(), Kit::runtime(handle), open, properties);
        match timeout(limit, connecting).await {
            Ok(connected) => connected.map_err(|error| self.trouble(&error)),
            Err(_) => Err(self.trouble(&io::Error::from(io::ErrorKind::TimedOut).into())),
        }
    }

    /// Names, TCP, TLS.
    async fn open(&self) -> io::Result<Stream> {
        let host = self.uri.authority.host.as_str();
        let mut trouble = io::Error::new(io::ErrorKind::NotFound, "that name has no address");
        for address in tokio::net::lookup_host((host, self.uri.authority.port)).await? {
            match Tokio::default().with_handle(Handle::current()).tcp_connect_addr(address).await {
                Ok(stream) => {
                    // Else a question waits for the answer to the one before it: 43 ms at times, measured.
                    stream.get_ref().set_nodelay(true)?;
                    let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
                    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    return Ok(Box::new(connector.connect(name, stream).await?));
                }
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    /// It has not answered in time.
    pub(super) fn late(&self) -> Error {
        self.error(format!("no answer within {:?}", self.limit))
    }

    /// What it means that a queue was refused.
    pub(super) fn refusal(&self, error: &lapin::Error) -> Trouble {
        let ErrorKind::ProtocolError(refusal) = error.kind() else {
            return Trouble::Away(self.error(format!("the connection was lost: {error}")));
        };
        let remedy = match refusal.get_id() {
            403 => "give the user the permissions that the documentation names",
            405 => "the queue is another connection's: give this one another name",
            406 => {
                "the queue is there, made in another way: use the same options everywhere, or give this one another name"
            }
            _ => return Trouble::Away(self.error(refusal.get_message().as_str())),
        };
        Trouble::Refused(self.error(format!("{}; {remedy}", refusal.get_message())))
    }

    /// What it means that there is no connection.
    fn trouble(&self, error: &lapin::Error) -> Trouble {
        let user = &self.uri.authority.userinfo.username;
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => {
                let reason = match refusal.get_id() {
                    403 => format!(
                        "it refuses the user `{user}`: wrong password, or no such user (by default `guest` may come from \
                         the broker's own machine only)"
                    ),
                    530 => format!(
                        "it refuses the virtual host `{}`: there is none of that name, or `{user}` may not use it \
                         (rabbitmqctl add_vhost, set_permissions)",
                        self.uri.vhost
                    ),
                    _ => format!("it refuses the connection: {}", refusal.get_message()),
                };
                Trouble::Refused(self.error(reason))
            }
            ErrorKind::IOError(error) => match error.kind() {
                io::ErrorKind::InvalidData => Trouble::Refused(self.error(format!(
                    "TLS with it fails: {error}; is its certificate for that name, and signed by whom this program trusts \
                     (`Tls`)? Does that port speak TLS?"
                ))),
                io::ErrorKind::TimedOut => {
                    Trouble::Away(self.late())
                }
                _ => Trouble::Away(self.error(format!("it cannot be reached: {error}"))),
            },
            ErrorKind::ParsingError(_) => Trouble::Refused(
                self.error("what answers there does not speak AMQP 0-9-1: is it another service, or a port for TLS?"),
            ),
            _ => Trouble::Away(self.error(error.to_string())),
        }
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        let user = &authority.userinfo.username;
        write!(f, "{scheme}://{user}@{}:{}/{}", authority.host, authority.port, self.uri.vhost)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// There is no connection.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may come back.
    Away(Error),
    /// It says no.
    Refused(Error),
}

impl Trouble {
    pub(super) fn into_error(self) -> Error {
        match self {
            Trouble::Away(error) | Trouble::Refused(error) => error,
        }
    }
}

/// Whom a connection by TLS trusts, and who it says that it is.
///
/// By default it trusts whom the system trusts, and says nothing of itself but user and password.
///
/// ```
/// use concurrent_futures::Tls;
///
/// let tls = Tls::new().roots("/etc/rabbitmq/ca.pem").identity("/etc/my/cert.pem", "/etc/my/key.pem");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tls {
    roots: Option<std::path::PathBuf>,
    identity: Option<(std::path::PathBuf, std::path::PathBuf)>,
}

impl Tls {
    /// Trusts whom the system trusts.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpExecutor, Tls};
    ///
    /// let pool = AmqpExecutor::builder().tls(Tls::new()).connect("amqps://broker.example")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Tls::default()
    }

    /// Trusts those certificates of authorities and no others: a file in PEM. It is read by `connect`, which ends with
    /// [`Error::InvalidArgument`] if it cannot be.
    ///
    /// ```
    /// let tls = concurrent_futures::Tls::new().roots("/etc/rabbitmq/ca.pem");
    /// ```
    #[must_use]
    pub fn roots(mut self, file: impl Into<std::path::PathBuf>) -> Self {
        self.roots = Some(file.into());
        self
    }

    /// Shows that certificate (with those that lead to its root), and proves by that key that it is ours: files in PEM, read as
    /// those of [`roots`](Self::roots).
    ///
    /// ```
    /// let tls = concurrent_futures::Tls::new().identity("/etc/my/cert.pem", "/etc/my/key.pem");
    /// ```
    #[must_use]
    pub fn identity(
        mut self,
        certificates: impl Into<std::path::PathBuf>,
        key: impl Into<std::path::PathBuf>,
    ) -> Self {
        self.identity = Some((certificates.into(), key.into()));
        self
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        let wrong = |what: &str, file: &std::path::Path, reason: &dyn fmt::Display| {
            Error::invalid(
                format!("{what} in {} cannot be used: {reason}", file.display()),
                "give a file in PEM",
            )
        };
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(file) => {
                let wrong = |reason: &dyn fmt::Display| wrong("the certificates", file, reason);
                for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
                    let certificate = certificate.map_err(|error| wrong(&error))?;
                    roots.add(certificate).map_err(|error| wrong(&error))?;
                }
                if roots.is_empty() {
                    return Err(wrong(&"there is none"));
                }
            }
            // Those that cannot be read are as good as not there; who needs them is told so by the broker's certificate.
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::invalid(format!("TLS: {error}"), "please report this"))?
            .with_root_certificates(roots);
        let Some((certificates, key)) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong("the certificate", certificates, &error))?;
        let own = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("the key", key, &error))?;
        config
            .with_client_auth_cert(chain, own)
            .map_err(|error| wrong("the certificate", certificates, &error))
    }
}
