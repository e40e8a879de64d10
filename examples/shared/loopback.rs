//! A web server at a loopback address, for examples that need one to talk to.
//!
//! Not here: what it answers; that is the router that it is given. The rule: it has one thread, with one event loop, as
//! a server of Python's asyncio has: whoever computes there holds up everybody.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::serve::ListenerExt;
use tokio::sync::oneshot;

/// A server that answers as long as this lives.
pub(crate) struct Loopback {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Loopback {
    /// Starts it. Port 0: any that is free.
    pub(crate) fn serve(port: u16, router: Router) -> io::Result<Self> {
        // Listening before this returns: nobody comes too early.
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(move |connection| {
                counted.fetch_add(1, Ordering::Relaxed);
                // An answer is not to wait for the next one to go along with.
                let _ = connection.set_nodelay(true);
            });
            tokio::select! {
                served = async { axum::serve(listener, router).await } => served,
                _ = stopped => Ok(()),
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("server".into()).spawn(move || runtime.block_on(serve))?;
        Ok(Loopback { address, connections, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// How many connections were opened, ever.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Serves until the process is ended from outside.
    pub(crate) fn forever(mut self) -> io::Result<()> {
        let thread = self.thread.take().expect("it is taken here and in `drop` alone");
        thread.join().expect("the server does not panic")
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
