//! Messages between two processes, each with a descriptor or without: a SOCK_SEQPACKET pair and SCM_RIGHTS.
//!
//! A message arrives whole or not at all, and a descriptor that arrives belongs to whoever received it, close-on-exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// One end.
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends, close-on-exec.
    ///
    /// # Errors
    /// Where there are no descriptors to spare.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    /// From here on [`Channel::receive`] waits no longer than this.
    ///
    /// # Errors
    /// Where the socket refuses.
    pub(crate) fn bound_waiting(&self, deadline: Duration) -> io::Result<()> {
        let bound = TimeVal::milliseconds(i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX));
        Ok(socket::setsockopt(&self.0, sockopt::ReceiveTimeout, &bound)?)
    }

    /// Sends `message` (not empty), and a copy of `descriptor`.
    ///
    /// # Errors
    /// Where the other end is closed.
    pub(crate) fn send(&self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let raw = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
        let rights = raw.as_ref().map(|raw| ControlMessage::ScmRights(raw));
        let parts = [IoSlice::new(message)];
        let sent = uninterrupted(|| {
            socket::sendmsg::<()>(self.0.as_raw_fd(), &parts, rights.as_slice(), MsgFlags::MSG_NOSIGNAL, None)
        })?;
        debug_assert_eq!(sent, message.len(), "a packet is sent whole");
        Ok(())
    }

    /// Waits for a message and puts it at the start of `room`: its length, 0 where the other end is closed, and its
    /// descriptor.
    ///
    /// # Errors
    /// Where the socket fails.
    pub(crate) fn receive(&self, room: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        let mut control = nix::cmsg_space!(RawFd);
        let (length, rights) = uninterrupted(|| {
            let mut parts = [IoSliceMut::new(room)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received = socket::recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
            let rights = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmRights(raw) => Some(raw),
                _ => None,
            });
            Ok((received.bytes, rights.unwrap_or_default()))
        })?;
        // SAFETY: the kernel has just made these descriptors for this message, and nobody else knows their numbers.
        let mut descriptors = rights.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) });
        Ok((length, descriptors.next()))
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn messages_keep_their_bounds_and_carry_a_descriptor() {
        let (one, other) = Channel::pair().expect("a pair");
        let mut given = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut given, b"content").expect("written");
        one.send(b"first", None).expect("sent");
        one.send(b"second", Some(given.as_fd())).expect("sent");
        let mut room = [0; 16];
        let (length, nothing) = other.receive(&mut room).expect("received");
        assert!(&room[..length] == b"first" && nothing.is_none());
        let (length, descriptor) = other.receive(&mut room).expect("received");
        assert_eq!(&room[..length], b"second");
        let mut same = File::from(descriptor.expect("it came along"));
        std::io::Seek::rewind(&mut same).expect("a file");
        let mut text = String::new();
        same.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "content");
        drop(one);
        assert_eq!(other.receive(&mut room).expect("closed").0, 0);
    }
}
