//! Names to addresses, permitted ones only. A name that leads to any prohibited address is refused whole: a mixed
//! answer is how a rebinding attack looks.

use crate::{exception::Exception, is_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};

/// Where a lane may lead.
#[derive(Debug, Clone)]
pub(crate) enum Permit {
    Public,
    Exactly(Exception),
}

impl Permit {
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Exactly(exception) => exception.permits(address),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the name is not known")]
    NotFound,
    #[error("the name leads to an address that is not public")]
    Prohibited,
}

pub(crate) struct Filter(pub(crate) Permit);

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let permit = self.0.clone();
        Box::pin(async move {
            let found =
                tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| ResolveError::NotFound)?;
            Ok(Box::new(permitted(&permit, found.collect())?.into_iter()) as Addrs)
        })
    }
}

fn permitted(permit: &Permit, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ResolveError> {
    if found.is_empty() {
        return Err(ResolveError::NotFound);
    }
    if found.iter().any(|address| !permit.permits(address.ip())) {
        return Err(ResolveError::Prohibited);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_prohibited_address_spoils_the_answer() {
        let check = |permit: &Permit, found: &[&str], expected: Result<usize, ResolveError>| {
            let found = found.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
            assert_eq!(permitted(permit, found).map(|found| found.len()), expected);
        };
        let local = Permit::Exactly("x:1=127.0.0.0/8".parse().unwrap());
        check(&Permit::Public, &["1.1.1.1", "2606:4700::1"], Ok(2));
        check(&Permit::Public, &["1.1.1.1", "10.0.0.1"], Err(ResolveError::Prohibited));
        check(&Permit::Public, &[], Err(ResolveError::NotFound));
        check(&local, &["127.0.0.1"], Ok(1));
        check(&local, &["127.0.0.1", "169.254.169.254"], Err(ResolveError::Prohibited));
    }
}
