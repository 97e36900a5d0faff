//! `docker-credential-NAME get`: the server's name goes in, a login comes out (docker's "Credential
//! helper protocol").

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::oci::login::{Login, LoginError, parse_program_reply};

/// How long a program may take: some ask a cloud first.
const PATIENCE: Duration = Duration::from_secs(30);
/// Programs that run at once.
static RUNNING: Semaphore = Semaphore::const_new(4);
/// Bytes of its answer that are read.
const MAX_ANSWER: u64 = 64 << 10;

/// Why a credential program gave no login.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    /// The program cannot be run.
    #[error("{0} cannot be run: {1}")]
    Run(String, std::io::Error),
    /// The program has no login. Its message is for people, and no secret.
    #[error("{0} has no login for {1}: {2}")]
    Refused(String, String, String),
    /// The program printed something else.
    #[error("{0}: {1}")]
    Reply(String, LoginError),
    /// The program did not end in time.
    #[error("{program} did not answer within {}", humantime::format_duration(PATIENCE))]
    Silent {
        /// The program's name.
        program: String,
    },
}

/// The login that `docker-credential-NAME` has for `server`.
pub(super) async fn ask(name: &str, server: &str) -> Result<Login, ProgramError> {
    let program = format!("docker-credential-{name}");
    let _permit = RUNNING.acquire().await;
    match tokio::time::timeout(PATIENCE, run(&program, server)).await {
        Ok(said) => said,
        Err(_) => Err(ProgramError::Silent { program }),
    }
}

async fn run(program: &str, server: &str) -> Result<Login, ProgramError> {
    let failed = |error| ProgramError::Run(program.to_owned(), error);
    let mut command = Command::new(program);
    // Variables of seawall's own may hold secrets.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("SEAWALL_") || name.starts_with("LISTEN_") {
            command.env_remove(&*name);
        }
    }
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read what it is asked for says so in its answer.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    // Room for all of it at once: what a vector grows out of is not wiped.
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_ANSWER as usize));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return parse_program_reply(&answer).map_err(|error| ProgramError::Reply(program.to_owned(), error));
    }
    // A login, and then a failure: not for the log.
    let answer = if answer.contains(&b'{') { b"(not shown)" } else { answer.as_slice() };
    let said: String = String::from_utf8_lossy(answer).trim().chars().take(200).collect();
    Err(ProgramError::Refused(program.to_owned(), server.to_owned(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(script: &str) -> Result<Login, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        write_by_another(&path, &format!("#!/bin/sh\n{script}\n"));
        run(path.to_str().unwrap(), "ghcr.io")
            .await
            .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "X"))
    }

    /// This process never has it open for writing, nor do those that other tests start of it
    /// meanwhile: then it could not be run ("Text file busy").
    fn write_by_another(path: &std::path::Path, script: &str) {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", r#"printf %s "$2" > "$1" && chmod 700 "$1""#, "sh"]).arg(path).arg(script);
        assert!(shell.status().unwrap().success());
    }

    #[tokio::test]
    async fn a_program_is_asked_for_the_server() {
        let login = said(r#"read -r server; echo "{\"Username\":\"$1\",\"Secret\":\"$server\"}""#).await.unwrap();
        assert_eq!(login, Login::Password { username: "get".into(), password: Zeroizing::new("ghcr.io".into()) });
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said() {
        let error = said("echo credentials not found in native keychain; exit 1").await.unwrap_err();
        assert_eq!(error, "X has no login for ghcr.io: credentials not found in native keychain");
        let error = said(r#"echo '{"Secret":"hunter2"}'; exit 1"#).await.unwrap_err();
        assert_eq!(error, "X has no login for ghcr.io: (not shown)");
        assert_eq!(said("echo hunter2").await.unwrap_err(), "X: it answered something that is no login");
        assert!(
            said("yes").await.unwrap_err().starts_with("X has no login for ghcr.io: y"),
            "killed when enough was read"
        );
        let error = ask("no-such-program", "ghcr.io").await.unwrap_err().to_string();
        assert_eq!(error, "docker-credential-no-such-program cannot be run: No such file or directory (os error 2)");
    }
}
