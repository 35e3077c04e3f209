//! Talks to the service, or to one within this process where none runs: the same words, under the same locks.

use std::fs::File;
use std::io::{ErrorKind, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use updater::control_socket::{self, Channel, Done, LineError, Payload, Reply, Request, Wish};
use updater::fetch::is_web_address;
use updater::gates::Reason;
use updater::service::Failure;
use updater::service::place::Place;
use updater::service::run::Service;
use updater::service::status::Status;

/// Somebody who answers.
pub struct Conversation<'a> {
    channel: Channel,
    /// The service in this process, and where it listens.
    own: Option<(Service, Option<&'a Path>)>,
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        if let Some((service, Some(run))) = &self.own {
            service.close(run);
        }
    }
}

impl<'a> Conversation<'a> {
    /// With the service of this place; `None` where none runs.
    pub fn with_service(place: &Place) -> Result<Option<Self>, Failure> {
        let Some(run) = place.run.as_deref() else {
            return Ok(None);
        };
        let path = control_socket::path(run);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Some(Self {
                channel: Channel::new(stream),
                own: None,
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::failed(format!(
                "connect to {}: {error} (root may, and the group tandem)",
                path.display()
            ))),
        }
    }

    /// With the service of this place, or with one in this process, which others can talk to as long as it lasts.
    pub fn begin(place: &'a Place) -> Result<Self, Failure> {
        if let Some(conversation) = Self::with_service(place)? {
            return Ok(conversation);
        }
        let service = Service::open(place.clone())?;
        let run = place.run.as_deref().filter(|run| {
            let listening = service.listen(run);
            listening.inspect_err(|error| log::info!("{error}")).is_ok()
        });
        let stream = service
            .connect()
            .map_err(|error| Failure::failed(format!("start update: {error}")))?;
        Ok(Self {
            channel: Channel::new(stream),
            own: Some((service, run)),
        })
    }

    /// Asks, shows what comes in between, and returns the last word.
    pub fn ask(
        &mut self,
        request: &Request,
        descriptor: Option<&dyn AsFd>,
        mut show: impl FnMut(&Status),
    ) -> Result<Done, Failure> {
        self.channel
            .send(request, descriptor)
            .map_err(|error| Failure::failed(format!("ask the service: {error}")))?;
        loop {
            match self.channel.receive::<Reply>() {
                Ok(Reply::Status(status)) => show(&status),
                Ok(Reply::Done(done)) => return Ok(done),
                Ok(Reply::Failed(failed)) => return Err(failed.into()),
                Err(LineError::Closed | LineError::Cut) => {
                    let text = "hear the service: it has ended; see -status";
                    return Err(Failure::failed(text));
                }
                Err(error) => {
                    return Err(Failure::failed(format!("hear the service: {error}")));
                }
            }
        }
    }
}

/// A payload that was named on the command line, and the descriptor that goes along with a file.
pub fn wish(
    payload: Option<&Path>,
    force: Vec<Reason>,
) -> Result<(Wish, Option<OwnedFd>), Failure> {
    let Some(path) = payload else {
        let payload = Payload::Configured;
        return Ok((Wish { payload, force }, None));
    };
    if let Some(url) = path.to_str().filter(|text| is_web_address(text)) {
        let payload = Payload::Url(url.to_owned());
        return Ok((Wish { payload, force }, None));
    }
    let failed = |error| Failure::failed(format!("open payload {}: {error}", path.display()));
    let descriptor: OwnedFd = match path == Path::new("-") {
        true => stdin().as_fd().try_clone_to_owned().map_err(failed)?,
        false => File::open(path).map_err(failed)?.into(),
    };
    let payload = Payload::Descriptor;
    Ok((Wish { payload, force }, Some(descriptor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_no_file() {
        let (wish, descriptor) = super::wish(Some(Path::new("https://h/p")), vec![]).unwrap();
        assert_eq!(wish.payload, Payload::Url("https://h/p".into()));
        assert!(descriptor.is_none());
        let (wish, descriptor) = super::wish(None, vec![Reason::Same]).unwrap();
        assert_eq!(wish.payload, Payload::Configured);
        assert!(descriptor.is_none());
        let missing = super::wish(Some(Path::new("/no/such/file")), vec![]).unwrap_err();
        assert!(missing.text.starts_with("open payload /no/such/file: "));
    }
}
