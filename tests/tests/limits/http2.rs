//! HTTP/2 by hand, since libraries keep to what the server allows.

use nadgrid_tests::Cluster;
use std::io::Write;
use std::net::TcpStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn literal(into: &mut Vec<u8>, name: &[u8], value: &str) {
    into.extend(name);
    into.push(value.len() as u8);
    into.extend(value.as_bytes());
}

/// The beginning of a gRPC call; the request is not ended.
pub(crate) fn call(stream: u32, path: &str) -> Vec<u8> {
    // POST and http are in the static table, as are the names of the three that follow.
    let mut block = vec![0x83, 0x86];
    literal(&mut block, &[0x04], path);
    literal(&mut block, &[0x01], "localhost");
    literal(&mut block, &[0x0f, 0x10], "application/grpc");
    literal(&mut block, b"\x00\x02te", "trailers");
    frame(HEADERS, 0x4, stream, &block)
}

/// Bytes of a request that goes on.
pub(crate) fn part(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, bytes)
}

/// Bytes of a request, and its end.
pub(crate) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, 0x1, stream, bytes)
}

/// An empty message, and the end of the request.
pub(crate) fn empty_message(stream: u32) -> Vec<u8> {
    frame(DATA, 0x1, stream, &[0; 5])
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

pub(crate) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A connection whose answers are read away.
pub(crate) fn raw(cluster: &Cluster) -> TcpStream {
    let socket = TcpStream::connect(cluster.address()).unwrap();
    let mut reader = socket.try_clone().unwrap();
    std::thread::spawn(move || drop(std::io::copy(&mut reader, &mut std::io::sink())));
    (&socket).write_all(&hello()).unwrap();
    socket
}

/// Sends as much as the other side takes before it ends the connection.
pub(crate) fn pour(mut socket: &TcpStream, frames: impl Iterator<Item = Vec<u8>>) -> usize {
    frames.take_while(|frame| socket.write_all(frame).is_ok()).count()
}
