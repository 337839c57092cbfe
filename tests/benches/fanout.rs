//! A broadcast to 20,000 rows, posted to a sink on this machine. Compares
//! Belfry's broadcaster with ones written with AWS's SDKs in Node and Python,
//! and with a minimal one in Rust. `make bench` installs and builds what it
//! needs.

use std::sync::Arc;
use std::time::Instant;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use belfry_tests::{
    Figures, Function, Sink, Socket, Stack, belfry, measured, node_peer, python_peer,
};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const ROWS: usize = 20_000;

const RUNS: usize = 5;

/// DynamoDB's limit for a batch of writes.
const BATCH: usize = 25;

/// Memory sizes and the share of a processor that each one buys. 1,769 MB buy a
/// whole one (AWS: "Configure Lambda function memory").
const MEMORY: [(u32, f64); 3] = [
    (512, 512.0 / 1_769.0),
    (1_024, 1_024.0 / 1_769.0),
    (1_769, 1.0),
];

/// Lambda's price for a GB-second, in dollars (x86, us-east-1).
const GB_SECOND: f64 = 0.000_016_666_7;

struct Peer {
    name: &'static str,
    function: Function,
    per_second: Figures,
    per_cpu_second: Figures,
}

#[tokio::main]
async fn main() {
    let stack = Stack::builder().functions(&measured()).start().await;
    let _client = fill(&stack).await;
    let sink = Sink::start().await;

    let mut peers = Vec::new();
    for (name, command) in [
        ("Belfry", belfry("broadcaster")),
        ("bare loop", belfry("bare-loop")),
        ("Node", node_peer("broadcaster")),
        ("Python", python_peer("broadcaster")),
    ] {
        peers.push(Peer {
            name,
            function: Function::start(command, &stack.unlimited(&sink.url)).await,
            per_second: Figures::default(),
            per_cpu_second: Figures::default(),
        });
    }
    for peer in &mut peers {
        // Warms up connections and just-in-time compilers.
        broadcast(&mut peer.function, &sink).await;
    }
    for _ in 0..RUNS {
        for peer in &mut peers {
            let (seconds, cpu_seconds) = broadcast(&mut peer.function, &sink).await;
            peer.per_second.add(ROWS as f64 / seconds);
            peer.per_cpu_second.add(ROWS as f64 / cpu_seconds);
        }
    }
    println!("broadcast to {ROWS} rows, {RUNS} runs: median (range)");
    println!(
        "{:<10} {:>28} {:>28} {:>12}",
        "", "posts/s", "posts/CPU second", "peak memory"
    );
    for peer in &peers {
        println!(
            "{:<10} {:>28} {:>28} {:>9.1} MB",
            peer.name,
            peer.per_second,
            peer.per_cpu_second,
            peer.function.peak_memory_kb() as f64 / 1_024.0
        );
    }
    for other in &peers[1..] {
        println!(
            "Belfry: {:.2} times {}'s posts/s, {:.2} times its posts/CPU second",
            peers[0].per_second.times(&other.per_second),
            other.name,
            peers[0].per_cpu_second.times(&other.per_cpu_second)
        );
    }

    drop(peers);
    by_memory(&stack).await;
}

/// Measures the effect of a function's memory. Over TLS, as on AWS.
async fn by_memory(stack: &Stack) {
    let (certificate, tls) = tls();
    let sink = Sink::behind(Some(tls)).await;
    let mut variables = stack.unlimited(&sink.url);
    let path = certificate.path().to_str().expect("a path");
    variables.push(("SSL_CERT_FILE", path.to_owned()));
    println!("\nBelfry over TLS, by memory, with the share of a processor that it buys");
    println!(
        "{:<10} {:>18} {:>28} {:>28} {:>14}",
        "", "first, posts/s", "then, posts/s", "posts/CPU second", "$ per million"
    );
    for (megabytes, share) in MEMORY {
        let mut function = Function::start(belfry("broadcaster"), &variables).await;
        if share < 1.0 {
            function.limit_to(share);
        }
        // The first broadcast includes every connection's TLS handshake.
        let (first, _) = broadcast(&mut function, &sink).await;
        let (mut per_second, mut per_cpu_second) = (Figures::default(), Figures::default());
        for _ in 0..RUNS {
            let (seconds, cpu_seconds) = broadcast(&mut function, &sink).await;
            per_second.add(ROWS as f64 / seconds);
            per_cpu_second.add(ROWS as f64 / cpu_seconds);
        }
        let gigabytes = f64::from(megabytes) / 1_024.0;
        let price = gigabytes * GB_SECOND / per_second.median() * 1e6;
        println!(
            "{:<10} {:>18.0} {per_second:>28} {per_cpu_second:>28} {price:>14.4}",
            format!("{megabytes} MB"),
            ROWS as f64 / first
        );
    }
}

/// A certificate like AWS's (RSA, 2,048 bits) in a file, and a server with it.
fn tls() -> (NamedTempFile, TlsAcceptor) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let parameters = rcgen::CertificateParams::new(["127.0.0.1".into()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), certificate.pem()).expect("written");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a key that fits");
    (file, TlsAcceptor::from(Arc::new(config)))
}

/// Copies a connected client's row until there are enough rows. Returns the
/// client: if it were dropped, its row would be removed.
async fn fill(stack: &Stack) -> Socket {
    let client = stack.connect("alice").await;
    let id = stack.connection_ids().await.remove(0);
    let row = stack.row(&id).await.expect("a row");
    let rows: Vec<_> = (1..ROWS)
        .map(|number| {
            let mut row = row.clone();
            let id = AttributeValue::S(format!("{number:013}AbC="));
            row.insert("connectionId".into(), id);
            let put = PutRequest::builder().set_item(Some(row)).build();
            WriteRequest::builder()
                .put_request(put.expect("an item"))
                .build()
        })
        .collect();
    for batch in rows.chunks(BATCH) {
        let write = stack.dynamodb().batch_write_item();
        let write = write.request_items("Connections", batch.to_vec());
        write.send().await.expect("written");
    }
    assert_eq!(stack.rows().await, ROWS);
    client
}

/// Sends one broadcast. Returns the seconds it took and its processor seconds.
async fn broadcast(function: &mut Function, sink: &Sink) -> (f64, f64) {
    let request = json!({
        "target": {"type": "all"},
        "message": {"type": "notification", "data": {"kind": "upload.completed", "file": "x.png"}},
    });
    let (begun, cpu) = (Instant::now(), function.cpu());
    let report = function.invoke(&request).await.expect("a report");
    let (took, used) = (begun.elapsed(), function.cpu() - cpu);
    assert_eq!(
        (&report["success"], sink.taken()),
        (&json!(ROWS), ROWS),
        "{report}"
    );
    (took.as_secs_f64(), used.as_secs_f64())
}
