//! The real server as a process: started on a free port, asked over HTTP, killed when dropped.
//!
//! A process and not a call, because settings of the object store are read from the environment, and because what is shipped
//! is what is tested.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::multipart::{self, Part};

/// How long a server may take from its start to its word that it listens, on a busy machine.
const START: Duration = Duration::from_mins(1);
/// The media type of metadata and search results.
pub const JSON: &str = "application/dicom+json";

/// A running server.
pub struct Binary {
    child: Child,
    base: String,
    client: reqwest::Client,
    log: PathBuf,
    _folder: TempDir,
}

/// An answer, read to its end.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type with its parameters; empty when there is none.
    pub content_type: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// The binary in a folder and without settings in its environment.
pub fn command(folder: &Path) -> Command {
    launched(&[], folder)
}

/// The same, started by another command that gets the binary and its arguments after its own.
pub fn launched(launcher: &[&str], folder: &Path) -> Command {
    let words = [launcher, &[env!("CARGO_BIN_EXE_isocenter")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    for (name, _) in std::env::vars_os() {
        if ["ISOCENTER_", "AWS_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

impl Binary {
    /// Starts a server over SQLite and a folder, both in `data`.
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// The same with more variables in its environment.
    pub async fn start_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_by(&[], data, environment).await
    }

    /// The same, started by another command.
    pub async fn start_by(launcher: &[&str], data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut server = Self::spawn_by(launcher, data, environment);
        server.base = server.listens().await;
        server
    }

    /// The same without waiting until it listens: good for nothing but to be killed.
    pub fn spawn(data: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn_by(&[], data, environment)
    }

    fn spawn_by(launcher: &[&str], data: &Path, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let output = File::create(&log).unwrap();
        let mut command = launched(launcher, folder.path());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .envs(environment.iter().copied())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = command.spawn().unwrap();
        Self { child, base: String::new(), client: client(), log, _folder: folder }
    }

    /// Waits until it says where it listens.
    async fn listens(&mut self) -> String {
        let end = Instant::now() + START;
        while Instant::now() < end {
            let log = self.log();
            let said = log.lines().find_map(|line| line.split_once("listening on ")?.1.strip_suffix("/dicom-web"));
            if let Some(base) = said {
                return base.to_owned();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server did not listen in time:\n{}", self.log());
    }

    /// What the server said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its process, to look at.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a power failure would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The DICOMweb root, without a slash at its end.
    pub fn root(&self) -> String {
        format!("{}/dicom-web", self.base)
    }

    /// The URL of a path of the server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A client with connections of its own.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Asks for a path below the DICOMweb root, or for an absolute URL.
    pub async fn get(&self, path: &str, accept: &str) -> reqwest::Response {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.root()) };
        self.client.get(url).header("accept", accept).send().await.unwrap()
    }

    /// The same, read to its end.
    pub async fn read(&self, path: &str, accept: &str) -> Answer {
        Answer::of(self.get(path, accept).await).await
    }

    /// Stores files by one request.
    pub async fn store<F: AsRef<[u8]>>(&self, files: &[F]) -> Answer {
        self.store_below("", files).await
    }

    /// Stores files by one request to the study of a path such as `/1.2.3`.
    pub async fn store_below<F: AsRef<[u8]>>(&self, study: &str, files: &[F]) -> Answer {
        let (content_type, body) = multipart::write(files);
        let request = self.client.post(format!("{}/studies{study}", self.root()));
        Answer::of(request.header("content-type", content_type).header("accept", JSON).body(body).send().await.unwrap())
            .await
    }

    /// Sends any request to a path below the DICOMweb root.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.root())).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.send().await.unwrap()).await
    }

    /// The most memory that the process ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
    }

    /// Whether it still answers.
    pub async fn is_alive(&self) -> bool {
        self.client.get(self.url("/health/live")).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// The matches of a search such as `/studies?PatientID=1`.
    pub async fn search(&self, path: &str) -> Vec<Value> {
        let answer = self.read(path, JSON).await;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).unwrap(),
            204 => Vec::new(),
            other => panic!("{path}: status {other}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    /// How many instances all studies have by their counters.
    pub async fn instances_counted(&self) -> usize {
        let (mut counted, mut offset) = (0, 0);
        loop {
            let page = self.search(&format!("/studies?limit=500&offset={offset}")).await;
            counted += page.iter().map(|study| number(study, "00201208")).sum::<usize>();
            offset += page.len();
            if page.len() < 500 {
                return counted;
            }
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// Reads an answer to its end.
    pub async fn of(response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let content_type =
            response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
        let headers = response.headers().clone();
        Self { status, content_type, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(500).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The parts of the body.
    pub fn parts(&self) -> Vec<Part> {
        multipart::read(&self.content_type, &self.body)
    }

    /// The failure reasons of an answer to storing.
    pub fn failure_reasons(&self) -> Vec<u16> {
        let json = self.json();
        let items =
            ["00081198", "0008119A"].iter().flat_map(|tag| json[*tag]["Value"].as_array().cloned().unwrap_or_default());
        items.map(|item| u16::try_from(number(&item, "00081197")).unwrap()).collect()
    }

    /// Where the instances of an answer to storing are to be had.
    pub fn retrieve_urls(&self) -> Vec<String> {
        let json = self.json();
        let items = json["00081199"]["Value"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["00081190"]["Value"][0].as_str().unwrap().to_owned()).collect()
    }
}

/// The first value of an attribute as a number.
pub fn number(dataset: &Value, tag: &str) -> usize {
    let value = &dataset[tag]["Value"][0];
    value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or_else(|| panic!("{tag} is {value}"))
}

/// A client for plain HTTP; its TLS needs a provider all the same.
pub fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().build().unwrap()
}
