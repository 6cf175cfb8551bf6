//! A program on a terminal of its own, with eyes on its screen and fingers on its keys.
//!
//! What it draws goes through a terminal emulator, so a test asks what a user would see. Absent: moments; a test waits for a
//! screen, however long that takes.

use crate::{command, text};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a screen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program and its terminal; it is killed when it is dropped.
pub struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Everything it wrote, escapes included.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// `nadgrid` with these arguments on a terminal of so many columns and lines.
    ///
    /// # Panics
    /// When it does not start.
    pub fn nadgrid(columns: u16, lines: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let (pty, pts) = open().expect("a pseudo-terminal");
        let pty = Arc::new(pty);
        pty.resize(Size::new(lines, columns)).expect("a size");
        let plain = command("nadgrid");
        let mut command = Command::new(plain.get_program());
        for (name, _) in plain.get_envs() {
            command = command.env_remove(name);
        }
        let command = command.env_remove("NO_COLOR").env("TERM", "xterm-256color").envs(variables.iter().copied());
        let child = command.args(arguments).spawn(pts).expect("it starts");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(lines), size(columns), 0)));
        let written = Arc::new(Mutex::new(Vec::new()));
        // The other end reports an error once the program has ended.
        let (pty, reader) = (pty.clone(), pty);
        let (eyes, log) = (screen.clone(), written.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = (&*reader).read(&mut bytes) {
                eyes.lock().expect("not poisoned").process(&bytes[..count]);
                log.lock().expect("not poisoned").extend_from_slice(&bytes[..count]);
            }
        });
        Self { pty, child, screen, written }
    }

    /// What is on the screen.
    ///
    /// # Panics
    /// Never: nobody poisons it.
    pub fn screen(&self) -> String {
        self.screen.lock().expect("not poisoned").screen().contents()
    }

    /// Whether a full screen is on it, and not what was there before.
    ///
    /// # Panics
    /// Never: nobody poisons it.
    pub fn is_full_screen(&self) -> bool {
        self.screen.lock().expect("not poisoned").screen().alternate_screen()
    }

    /// Everything it wrote, escapes included.
    ///
    /// # Panics
    /// Never: nobody poisons it.
    pub fn written(&self) -> String {
        text(&self.written.lock().expect("not poisoned"))
    }

    /// Waits until the screen is as it should be, and gives it.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub fn wait(&self, reached: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if reached(&screen) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "it shows\n{screen}\nand wrote {:?}", self.written());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Makes the terminal another size.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn resize(&self, columns: u16, lines: u16) {
        self.screen.lock().expect("not poisoned").screen_mut().set_size(size(lines), size(columns));
        self.pty.resize(Size::new(lines, columns)).expect("a size");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and gives its exit code.
    ///
    /// # Panics
    /// When it goes on for a minute.
    pub fn exit_code(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it goes on and shows\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn size(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has a size")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
