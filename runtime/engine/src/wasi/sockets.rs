//! Sockets and the resolution of names: linked, because some components import them whether they use them or not, and refused
//! at the call. Nobody can be granted them: traffic over the network goes through `wasi:http`, where it is checked.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    self, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use crate::imports::RunState;
use crate::run_log::{Remark, RunLog};

/// Refuses calls that would make a socket or resolve a name, and logs so once.
pub(crate) struct NoSockets<'a> {
    pub(crate) inner: WasiSocketsCtxView<'a>,
    pub(crate) log: &'a RunLog,
}

struct Has;

impl HasData for Has {
    type Data<'a> = NoSockets<'a>;
}

/// Links the refusals in the place of the calls that they refuse.
pub(super) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    tcp_create_socket::add_to_linker::<_, Has>(linker, RunState::no_sockets)?;
    udp_create_socket::add_to_linker::<_, Has>(linker, RunState::no_sockets)?;
    ip_name_lookup::add_to_linker::<_, Has>(linker, RunState::no_sockets)
}

impl NoSockets<'_> {
    fn refuse<T>(&self, what: &str) -> SocketResult<T> {
        self.log.remark(Remark::Sockets, || {
            format!(
                "{what} is refused: no plugin gets sockets; send requests through wasi:http, which `http` under [grants] grants by host"
            )
        });
        Err(ErrorCode::AccessDenied.into())
    }
}

impl network::Host for NoSockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.network_error_code(error)
    }
}

impl network::HostNetwork for NoSockets<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.inner, network)
    }
}

impl tcp_create_socket::Host for NoSockets<'_> {
    fn create_tcp_socket(&mut self, _family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.refuse("a TCP socket")
    }
}

impl udp_create_socket::Host for NoSockets<'_> {
    async fn create_udp_socket(&mut self, _family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.refuse("a UDP socket")
    }
}

impl ip_name_lookup::Host for NoSockets<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        _name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.refuse("to resolve a name")
    }
}

impl HostResolveAddressStream for NoSockets<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        self.inner.resolve_next_address(stream)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.inner.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        HostResolveAddressStream::drop(&mut self.inner, stream)
    }
}
