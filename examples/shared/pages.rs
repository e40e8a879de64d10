//! A store of files that speaks HTTP: GET reads one, PUT writes one, 404 says that there is none.
//!
//! Not here: the server (`loopback.rs`), what is in it, who asks. The rule: every answer comes after a delay, as if from
//! far away, and the delay costs nobody a processor.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::get;

use crate::loopback::Loopback;

/// The store, and its server as long as this lives.
pub(crate) struct Pages {
    server: Loopback,
    store: Arc<Store>,
}

struct Store {
    delay: Duration,
    files: Mutex<BTreeMap<String, Bytes>>,
}

impl Pages {
    /// Starts the server of a store that holds these files, by path.
    pub(crate) fn serve(
        delay: Duration,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> io::Result<Self> {
        let files = files.into_iter().map(|(path, content)| (path, content.into())).collect();
        let store = Arc::new(Store { delay, files: Mutex::new(files) });
        let router = Router::new()
            .route("/{*path}", get(read).put(write))
            .layer(DefaultBodyLimit::disable()) // pictures are large
            .with_state(Arc::clone(&store));
        Ok(Pages { server: Loopback::serve(0, router)?, store })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// How many connections were opened, ever.
    pub(crate) fn connections(&self) -> usize {
        self.server.connections()
    }

    /// The bytes of each file whose path begins so.
    pub(crate) fn sizes(&self, prefix: &str) -> Vec<usize> {
        let files = self.store.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, file)| file.len()).collect()
    }
}

async fn read(State(store): State<Arc<Store>>, Path(path): Path<String>) -> Result<Bytes, StatusCode> {
    tokio::time::sleep(store.delay).await;
    let files = store.files.lock().unwrap_or_else(PoisonError::into_inner);
    files.get(&path).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn write(State(store): State<Arc<Store>>, Path(path): Path<String>, file: Bytes) -> StatusCode {
    tokio::time::sleep(store.delay).await;
    let mut files = store.files.lock().unwrap_or_else(PoisonError::into_inner);
    match files.insert(path, file) {
        None => StatusCode::CREATED,
        Some(_) => StatusCode::NO_CONTENT,
    }
}
