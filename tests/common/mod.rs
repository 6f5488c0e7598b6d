//! Raw upstreams, raw clients and proxies on port 0.
#![allow(dead_code, reason = "each test binary uses some of it")]

pub mod replay;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use inferdiff::proxy::{Budget, Ended, ProxyOptions, Taken, Tap, Upstream, serve};

/// Nothing in these tests takes longer; a read that does is a failure, not a hang.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An upstream that hands each connection to `handle` on a thread of its own.
pub struct RawUpstream {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
}

pub fn upstream(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> RawUpstream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, handle) = (connections.clone(), Arc::new(handle));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let handle = handle.clone();
            std::thread::spawn(move || handle(stream));
        }
    });
    RawUpstream {
        address,
        connections,
    }
}

/// Reads until `end` was seen; returns what came (less, where the peer closed before).
pub fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut got, mut piece) = (Vec::new(), [0; 4096]);
    while !got.windows(end.len()).any(|w| w == end) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(n) => got.extend_from_slice(&piece[..n]),
        }
    }
    got
}

/// Sends `request`, reads to the end of the connection.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Keeps what it is given.
pub struct Keeping {
    budget: Arc<Budget>,
    next: AtomicUsize,
    pub taken: Mutex<Vec<Taken>>,
    pub given_up: Mutex<Vec<&'static str>>,
}

impl Keeping {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(bytes, false),
            next: AtomicUsize::new(0),
            taken: Mutex::default(),
            given_up: Mutex::default(),
        })
    }

    pub fn accepted(&self) -> usize {
        self.next.load(Ordering::SeqCst)
    }

    pub fn held(&self) -> u64 {
        self.budget.held()
    }
}

impl Tap for Keeping {
    fn accept(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst) as u64
    }
    fn take(&self, taken: Taken) {
        self.taken.lock().unwrap().push(taken);
    }
    fn give_up(&self, reason: &'static str) {
        self.given_up.lock().unwrap().push(reason);
    }
    fn budget(&self) -> Option<&Arc<Budget>> {
        Some(&self.budget)
    }
}

/// A proxy on a thread of its own; stops (and drains) when asked.
pub struct Proxy {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Ended>>,
}

pub fn proxy(to: SocketAddr, tap: Arc<dyn Tap>) -> Proxy {
    let upstream = Upstream::plain(to.ip().to_string(), to.port());
    proxy_with(
        ProxyOptions {
            drain_timeout: PATIENCE,
            ..ProxyOptions::new(upstream)
        },
        tap,
    )
}

pub fn proxy_with(options: ProxyOptions, tap: Arc<dyn Tap>) -> Proxy {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let stop = async move {
                let _ = stopped.await;
            };
            serve(listener, options, tap, stop).await
        })
    });
    Proxy {
        address: told.recv().unwrap(),
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Proxy {
    pub fn stop(mut self) -> Ended {
        let _ = self.stop.take().unwrap().send(());
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Waits until `holds`, at most [`PATIENCE`].
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The real program; killed where a test forgets it.
pub struct Program {
    pub child: Child,
    log: std::path::PathBuf,
}

impl Program {
    pub fn start(log: &Path, args: &[&str]) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_inferdiff"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The address behind `word` in the log.
    pub fn address(&mut self, word: &str) -> SocketAddr {
        let mut found = None;
        wait_for("an address", || {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "it ended: {}",
                self.log()
            );
            let log = self.log();
            let after = log
                .split(word)
                .nth(1)
                .and_then(|s| s.split_whitespace().next());
            found = after.and_then(|a| a.parse().ok());
            found.is_some()
        });
        found.unwrap()
    }

    pub fn terminate(self) -> (i32, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.ended()
    }

    /// Waits until it has ended: exit code and log.
    pub fn ended(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.log())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What [`model_server`] answers.
pub const ANSWER: &str = r#"{"model_name":"m","model_version":"7","id":"x","outputs":[{"name":"y","shape":[1,2],"datatype":"FP32","data":[0.1,-2.5]}]}"#;

/// Answers every request of a connection; requests end with `]}]}`.
pub fn model_server() -> RawUpstream {
    upstream(|mut stream| {
        loop {
            if read_until(&mut stream, b"]}]}").is_empty() {
                return;
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                ANSWER.len()
            );
            if stream
                .write_all(format!("{head}{ANSWER}").as_bytes())
                .is_err()
            {
                return;
            }
        }
    })
}

/// A request of which the answer is that of [`model_server`].
pub fn request(id: u64) -> String {
    let body = format!(
        r#"{{"id":"r{id}","inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","data":[{id},0.5,-1e-3]}}]}}"#
    );
    format!(
        "POST /v2/models/m/infer?token=secret HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
