//! The two streams between the front and an HSM: one for requests that take microseconds, one beside it for those that take
//! seconds, each answered by a thread of its own in the HSM.
//!
//! A process is given one descriptor when it is started. So the first thing on the first stream is, for either side, one
//! byte with its end of the second (SCM_RIGHTS); it is there before anybody reads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::sys::channel::Channel;

/// The ends of the first stream, the front's and the HSM's, each with its end of the second one in it.
pub(super) fn pair() -> io::Result<(UnixStream, UnixStream)> {
    let (front, hsm) = UnixStream::pair()?;
    let (front_beside, hsm_beside) = UnixStream::pair()?;
    // What is sent by one end arrives at the other.
    channel(&front)?.send(&[0], Some(hsm_beside.as_fd()))?;
    channel(&hsm)?.send(&[0], Some(front_beside.as_fd()))?;
    Ok((front, hsm))
}

/// The end of the second stream that came with `first`, from which nothing was read before.
pub(super) fn beside(first: &UnixStream) -> io::Result<UnixStream> {
    match channel(first)?.receive(&mut [0])? {
        (1, Some(beside)) => Ok(beside.into()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn channel(stream: &UnixStream) -> io::Result<Channel> {
    Ok(Channel::from(OwnedFd::from(stream.try_clone()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn each_side_has_its_end_of_both_streams() {
        let (mut front, mut hsm) = pair().expect("made");
        let (mut front_beside, mut hsm_beside) = (beside(&front).expect("came"), beside(&hsm).expect("came"));
        front.write_all(b"1").expect("open");
        front_beside.write_all(b"2").expect("open");
        let mut got = [0; 2];
        hsm.read_exact(&mut got[..1]).expect("sent");
        hsm_beside.read_exact(&mut got[1..]).expect("sent");
        assert_eq!(&got, b"12");
        drop(front_beside);
        assert_eq!(hsm_beside.read(&mut got).expect("closed"), 0, "nobody else holds an end");
    }
}
