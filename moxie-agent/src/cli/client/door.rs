//! Where an agent may be reached, and what it means when nobody opens.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::paths::{RUNTIME_DIR, StateDir};

/// One way to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Door {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// The files of the state directory that the command line looks at.
#[derive(Debug)]
pub(in crate::cli) struct StateFiles(StateDir);

impl StateFiles {
    pub(in crate::cli) fn locate(context: &Context) -> Self {
        Self(StateDir::locate(context.global.state_dir.as_deref(), |name| context.env.text(name)))
    }

    /// The token that the agent made, if this user may read it.
    pub(in crate::cli) fn token(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.0.admin_token()).ok()?;
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    }
}

impl Door {
    /// The doors to try, in order.
    pub(super) fn candidates(
        url: Option<&str>,
        state_dir_given: bool,
        files: &StateFiles,
    ) -> Result<Vec<Self>, Failure> {
        if let Some(url) = url {
            return Self::parse(url).map(|door| vec![door]);
        }
        let mut doors = vec![Self::Unix(files.0.admin_socket())];
        let of_the_host = Self::Unix(Path::new(RUNTIME_DIR).join("admin.sock"));
        if !state_dir_given && !doors.contains(&of_the_host) {
            doors.push(of_the_host);
        }
        Ok(doors)
    }

    fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!("`{url}` is no place of an agent"))
                .next("--url http://127.0.0.1:8480, or --url unix:/run/moxie/admin.sock")
        };
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self::Tcp(format!("{}:{port}", authority.host())))
    }

    pub(super) fn is_on_this_host(&self) -> bool {
        let Self::Tcp(authority) = self else { return true };
        authority.starts_with("localhost:") || authority.parse::<SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback())
    }

    /// What the Host header says.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp(authority) => authority,
        }
    }

    /// Nobody opened.
    pub(super) fn closed(&self, error: &Error) -> Failure {
        let what = format!("no agent answers at {self}: {}", reason(error));
        match (error.kind(), self) {
            (ErrorKind::PermissionDenied, Self::Unix(_)) => {
                Failure::new(Exit::Denied, format!("this user may not talk to the agent at {self}")).next(format!(
                    "sudo usermod --append --groups {} $USER, then log in again; or use sudo",
                    crate::paths::GROUP
                ))
            }
            (_, Self::Unix(path)) => Failure::new(Exit::Unreachable, what).next(start(path)),
            (_, Self::Tcp(_)) => Failure::new(Exit::Unreachable, what)
                .next("check --url (MOXIE_URL), and on that host: systemctl status moxie"),
        }
    }
}

/// What starts the agent that would make this socket.
fn start(socket: &Path) -> String {
    match socket.parent() {
        Some(directory) if directory != Path::new(RUNTIME_DIR) => {
            format!("sudo MOXIE_ENVIRONMENT=dev moxie agent --state-dir {}", directory.display())
        }
        _ => "sudo systemctl start moxie, or in another terminal: sudo MOXIE_ENVIRONMENT=dev moxie agent".to_owned(),
    }
}

fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => error.to_string(),
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_door_or_is_wrong_use() {
        for (url, expected) in [
            ("unix:/run/x.sock", Some(Door::Unix("/run/x.sock".into()))),
            ("unix:///run/x.sock", Some(Door::Unix("/run/x.sock".into()))),
            ("http://127.0.0.1:8480/", Some(Door::Tcp("127.0.0.1:8480".into()))),
            ("http://[::1]:8480", Some(Door::Tcp("[::1]:8480".into()))),
            ("http://moxie", Some(Door::Tcp("moxie:80".into()))),
            ("unix:run/x.sock", None),
            ("https://moxie", None),
            ("127.0.0.1:8480", None),
            ("http://", None),
        ] {
            assert_eq!(Door::parse(url).ok(), expected, "{url}");
        }
        assert_eq!(Door::parse("ftp://x").unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn the_hosts_own_socket_is_tried_last_unless_a_state_directory_is_given() {
        let files = || StateFiles(StateDir::locate(Some(Path::new("/x")), |_| None));
        let own = Door::Unix("/x/admin.sock".into());
        assert_eq!(Door::candidates(None, true, &files()).unwrap(), std::slice::from_ref(&own));
        assert_eq!(Door::candidates(None, false, &files()).unwrap(), [own, Door::Unix("/run/moxie/admin.sock".into())]);
    }

    #[test]
    fn a_door_that_stays_closed_says_what_to_do() {
        let door = Door::Unix("/run/moxie/admin.sock".into());
        assert_eq!(door.closed(&ErrorKind::PermissionDenied.into()).exit(), Exit::Denied);
        for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused, ErrorKind::TimedOut] {
            let failure = door.closed(&kind.into());
            assert_eq!(failure.exit(), Exit::Unreachable);
            assert!(failure.to_string().contains("next: "), "{failure}");
        }
    }
}
