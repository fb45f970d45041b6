//! The place where a command does its work: a configuration on this machine, or a server over the network.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use sandhog_api::{Client, Identity, Network, Trust};

use crate::exit::Failure;
use crate::output::console::Console;

/// Maximum size of a file with a token or with certificates, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Name of the variable with the address of the server.
pub(crate) const URL_VARIABLE: &str = "SANDHOG_URL";

/// The place where a command does its work.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The configuration in this file, its broker, and the daemon that runs with it.
    Config(PathBuf),
    /// A daemon, or `sandhog serve`, over the network.
    Server(Client),
}

/// What is said of a server.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct ServerOptions {
    /// Do it by the server at this address, such as `https://jobs.example.com`, rather than beside the daemon
    #[arg(long, global = true, value_name = "URL", env = URL_VARIABLE, hide_env_values = true)]
    url: Option<String>,
    /// The token to show to the server; @FILE reads it from a file. SANDHOG_TOKEN is a better place than the command line, which
    /// others on this machine can see
    #[arg(long, global = true, value_name = "TOKEN|@FILE", env = "SANDHOG_TOKEN", hide_env_values = true)]
    token: Option<TokenSource>,
    /// Trust these authorities alone for the server's certificate: a file in PEM [default: those of this machine]
    #[arg(long, global = true, value_name = "FILE", env = "SANDHOG_CA", hide_env_values = true)]
    ca: Option<PathBuf>,
    /// Show this certificate to the server: a file in PEM, with those that vouch for it
    #[arg(long, global = true, value_name = "FILE", env = "SANDHOG_CERT", hide_env_values = true)]
    cert: Option<PathBuf>,
    /// The private key of --cert: a file in PEM
    #[arg(long, global = true, value_name = "FILE", env = "SANDHOG_KEY", hide_env_values = true)]
    key: Option<PathBuf>,
    /// Whether the address stands on the command line, rather than in the environment.
    #[arg(skip)]
    pub(crate) is_url_said: bool,
    /// Whether the token stands there.
    #[arg(skip)]
    pub(crate) is_token_said: bool,
}

/// The place of a token, not yet read. It is shown nowhere.
#[derive(Clone)]
pub(crate) enum TokenSource {
    /// The token itself.
    Clear(String),
    /// A file that has it.
    File(PathBuf),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(…)")
    }
}

impl FromStr for TokenSource {
    // What isn't a token is refused later: an error of the command line would show it.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('@') {
            Some(file) => Ok(Self::File(file.into())),
            None => Ok(Self::Clear(text.to_owned())),
        }
    }
}

impl ServerOptions {
    /// Returns the file of the configuration, for a command that does nothing over the network. An address in the environment is
    /// for the others.
    ///
    /// # Errors
    /// The command line names a server.
    pub(crate) fn here<'c>(&self, config: &'c Path, command: &str) -> Result<&'c Path, Failure> {
        if self.is_url_said { Err(not_there(command)) } else { Ok(config) }
    }

    /// Returns the place that is meant: the server, if there is one, or the configuration.
    ///
    /// # Errors
    /// The address isn't one, or one of the files can't be read.
    pub(crate) fn target(&self, config: &Path, console: &Console) -> Result<Target, Failure> {
        let Some(url) = &self.url else {
            return match self.is_token_said {
                true => {
                    Err(Failure::new("--token is for a server, and none is named").help("name it: --url URL"))
                }
                false => Ok(Target::Config(config.to_owned())),
            };
        };
        let token = match &self.token {
            None => None,
            Some(TokenSource::Clear(token)) => {
                if self.is_token_said {
                    console.warn(
                        "others on this machine can see the command line, and the token in it: \
                                  --token @FILE and SANDHOG_TOKEN keep it to yourself",
                    );
                }
                Some(token.parse().map_err(|rule| Failure::new(format!("--token isn't one: {rule}")))?)
            }
            Some(TokenSource::File(file)) => {
                let text = read(file)?;
                let text = String::from_utf8_lossy(&text);
                let refuse = |rule| Failure::new(format!("{} has no token: {rule}", file.display()));
                Some(text.trim().parse().map_err(refuse)?)
            }
        };
        let trust = match &self.ca {
            None => Trust::System,
            Some(file) => Trust::Only(read(file)?),
        };
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(Identity { chain: read(cert)?, key: read(key)? }),
            _ => return Err(Failure::new("--cert and --key go together")),
        };
        let has_token = token.is_some();
        let network = Network::new(url, token, &trust, identity.as_ref())
            .map_err(|error| Failure::new(error.to_string()))?;
        if has_token && network.is_open() {
            console.warn("the token goes over the network in clear: https keeps it to yourself");
        }
        Ok(Target::Server(Client::over(network)))
    }
}

/// Reads a small file.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unread = |cause: io::Error| Failure::io(format!("read {}", path.display()), &cause);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
    match bytes.len() as u64 > FILE_MAX {
        true => Err(Failure::new(format!("{} is larger than {FILE_MAX} bytes", path.display()))),
        false => Ok(bytes),
    }
}

impl Target {
    /// Returns the file of the configuration, for a command that does nothing over the network.
    ///
    /// # Errors
    /// A server is meant.
    pub(crate) fn config(&self, command: &str) -> Result<&Path, Failure> {
        match self {
            Self::Config(path) => Ok(path),
            Self::Server(_) => Err(not_there(command)),
        }
    }
}

fn not_there(command: &str) -> Failure {
    Failure::new(format!("`sandhog {command}` can't be done over the network"))
        .help("it works on what is on its own machine: leave --url and SANDHOG_URL away")
}
