//! Where the broker is: the one that is named, or one of this example's own, from its start to its end.
//!
//! Not here: who talks with it. The rule: a broker that was started here is stopped here; and if this program is killed,
//! by the script that started it.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use concurrent_futures::{Error, Tls};
use rustix::process::geteuid;

/// The variable that has the URL if the command line has none: what is there everybody on the machine can read.
pub(crate) const URL: &str = "AMQP_URL";

/// The broker, and where client and workers meet there.
#[derive(clap::Args)]
pub(crate) struct Broker {
    /// The broker, amqp://user:password@host:5672/vhost or amqps://…; not given: that of the variable AMQP_URL
    #[arg(long)]
    url: Option<String>,

    /// For amqps: a file in PEM with the authorities to trust; not given: those that the system trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The queue at which client and workers meet
    #[arg(long, value_name = "NAME", default_value = "cf.cluster")]
    pub(crate) queue: String,
}

impl Broker {
    /// The URL that was given, one way or the other.
    pub(crate) fn given(&self) -> Option<String> {
        self.url.clone().or_else(|| env::var(URL).ok()).filter(|url| !url.is_empty())
    }

    /// The same, where there must be one.
    pub(crate) fn url(&self) -> Result<String, Error> {
        self.given().ok_or_else(|| Error::InvalidArgument {
            what: "no broker is given".into(),
            remedy: format!("say --url amqp://user:password@host:5672/vhost, or set {URL}"),
        })
    }

    pub(crate) fn tls(&self) -> Tls {
        self.ca.as_ref().map_or_else(Tls::new, |file| Tls::new().roots(file))
    }
}

/// A broker of our own.
pub(crate) struct Started {
    script: PathBuf,
    directory: PathBuf,
}

impl Started {
    /// Starts one, by the project's script, which installs RabbitMQ where it is missing. Gives its URL besides.
    pub(crate) fn start() -> Result<(Started, String), Box<dyn StdError>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq.sh");
        if !script.exists() {
            return Err(
                format!("{} is not there to start a broker: give one by --url", script.display()).into()
            );
        }
        // For root it is run by a user without rights, who may not be let into our directories.
        let parent = if geteuid().is_root() { env::temp_dir() } else { "target/cluster".into() };
        let directory = parent.join(format!("cluster-broker-{}", process::id()));
        let started = Started { script, directory };
        let output = started.script("start").stderr(Stdio::inherit()).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let url = said.lines().find_map(|line| line.strip_prefix("AMQP_URL="));
        match url {
            Some(url) if output.status.success() => Ok((started, url.to_owned())),
            _ => Err(format!("no broker could be started ({}): give one by --url", output.status).into()),
        }
    }

    fn script(&self, order: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(order).stdin(Stdio::null());
        // Should this program be killed, the script kills the broker.
        command.env("RABBITMQ_DIR", &self.directory).env("RABBITMQ_FOR", process::id().to_string());
        command
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        match self.script("stop").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(status) if status.success() => _ = fs::remove_dir_all(&self.directory),
            other => eprintln!("the broker in {} could not be stopped: {other:?}", self.directory.display()),
        }
    }
}
