//! Against a store that says whatever the test likes, one connection after the other.

use super::*;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// Answers one request for each answer; returns the requests.
fn store(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/bucket/ab/abcd?X-Amz-Signature=secret", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let requests = answers.into_iter().map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        requests.collect()
    });
    (url, answering)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        request.push_str(&String::from_utf8_lossy(&piece[..read]));
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return request;
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn request(method: &str, url: &str) -> PresignedRequest {
    let headers = HashMap::from([("if-none-match".to_owned(), "*".to_owned())]);
    PresignedRequest { method: method.to_owned(), url: url.to_owned(), headers, expires_in_ms: 1000 }
}

fn of(bytes: &[u8]) -> PresignedPayload {
    PresignedPayload { size: bytes.len() as u64, digest: Digest::of(bytes) }
}

#[tokio::test]
async fn a_payload_is_put_with_its_length_and_the_headers_of_its_request() {
    let (url, answering) = store(vec![answer("200 OK", "")]);
    let sent = PresignedStore::new().unwrap().put(&request("PUT", &url), Bytes::from_static(b"gradient")).await;
    sent.unwrap();
    let asked = answering.join().unwrap().remove(0);
    let head = asked.to_ascii_lowercase();
    assert!(asked.starts_with("PUT /bucket/ab/abcd?X-Amz-Signature=secret HTTP/1.1"), "{asked}");
    assert!(head.contains("content-length: 8\r\n") && head.contains("if-none-match: *\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\ngradient"), "{asked}");
}

#[tokio::test]
async fn what_is_there_already_counts_as_put_and_what_is_refused_does_not() {
    let conflict = answer("409 Conflict", "<Code>ConditionalRequestConflict</Code>");
    let full = answer("507 Insufficient Storage", "<Message>no space\n left</Message>");
    let moved = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (url, answering) = store(vec![conflict, answer("412 Precondition Failed", ""), full, moved.to_owned()]);
    let store = PresignedStore::new().unwrap();
    let bytes = Bytes::from_static(b"gradient");
    store.put(&request("PUT", &url), bytes.clone()).await.unwrap();
    let said = store.put(&request("PUT", &url), bytes.clone()).await.unwrap_err().to_string();
    assert!(said.contains("507") && said.contains("no space left"), "{said}");
    let said = store.put(&request("PUT", &url), bytes).await.unwrap_err().to_string();
    assert!(said.contains("answered 307"), "{said}");
    assert_eq!(answering.join().unwrap().len(), 4);
}

#[tokio::test]
async fn only_the_announced_bytes_are_taken() {
    let answers = ["gradient", "gradienT", "grad", "gradients"].map(|body| answer("200 OK", body));
    let (url, answering) = store(answers.to_vec());
    let store = PresignedStore::new().unwrap();
    assert_eq!(store.get(&request("GET", &url), of(b"gradient")).await.unwrap(), b"gradient");
    for words in ["damaged", "truncated", "longer"] {
        let said = store.get(&request("GET", &url), of(b"gradient")).await.unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    answering.join().unwrap();
}

#[tokio::test]
async fn the_signature_is_in_no_error() {
    let store = PresignedStore::new().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/bucket/ab?X-Amz-Signature=secret");
    let said = store.get(&request("GET", &url), of(b"")).await.unwrap_err();
    assert!(matches!(said, PresignedError::Unreachable { .. }), "{said}");
    let shown = format!("{said} {said:?}");
    assert!(!shown.contains("secret") && shown.contains(&closed.to_string()), "{shown}");
}

#[tokio::test]
async fn what_is_no_request_of_a_store_is_refused_in_words() {
    let store = PresignedStore::new().unwrap();
    let said = async |request: PresignedRequest| store.get(&request, of(b"")).await.unwrap_err().to_string();
    assert!(said(request("PUT", "http://h/")).await.contains("GET is needed"));
    assert!(said(request("GET", "file:///etc/passwd")).await.contains("http and https are accepted"));
    assert!(said(request("GET", "nowhere")).await.contains("its address is none"));
    let mut odd = request("GET", "http://h/");
    odd.headers.insert("a b".to_owned(), String::new());
    assert!(said(odd).await.contains("\"a b\""));
}
