//! A real S3 server on a free port, with its objects in a temporary folder.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::s3_keys::{Faults, ShortKeys};

/// The name of the bucket that exists.
pub const BUCKET: &str = "archive";
/// The credentials that are accepted.
pub const ACCESS_KEY: &str = "isocenter-test";
pub const SECRET_KEY: &str = "not-a-secret";

/// A running server; stopped when dropped.
pub struct S3Server {
    pub endpoint: String,
    pub folder: TempDir,
    /// What is to go wrong.
    pub faults: Faults,
    accepting: JoinHandle<()>,
}

impl S3Server {
    /// Starts a server that has one empty bucket.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let faults = Faults::default();
        let files = FileSystem::new(folder.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(ShortKeys::new(files, faults.clone()));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let accepting = tokio::spawn(accept(listener, builder.build()));
        Self { endpoint, folder, faults, accepting }
    }

    /// The settings that lead to it, by their names in the environment.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    /// The files of the bucket, those of unfinished uploads included, but not what the server notes about objects.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let note = name.starts_with(".bucket-")
                    && (name.ends_with(".internal.json") || name.ends_with(".metadata.json"));
                if path.is_dir() {
                    folders.push(path);
                } else if !note {
                    found.push(path.strip_prefix(self.folder.path()).unwrap().display().to_string());
                }
            }
        }
        found
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    // dropped with this task, and the connections with it
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let service = service.clone();
        connections.spawn(async move {
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
