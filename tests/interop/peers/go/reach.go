package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

// directDial is shorter than the default of 10 s: firewalls here answer nothing.
const directDial = 2 * time.Second

var errNoAutonat = errors.New("started without --autonat")

// reaching gives the options of relays, hole punching and name servers.
func (o options) reaching() ([]libp2p.Option, error) {
	list := []libp2p.Option{libp2p.DisableRelay()}
	if o.relay || o.punch { // else it does not serve where it only knows loopback addresses
		list = []libp2p.Option{libp2p.EnableRelay(), libp2p.ForceReachabilityPublic()}
	}
	if o.relay {
		list = append(list, libp2p.EnableRelayService())
	}
	if o.punch {
		list = append(list, libp2p.EnableHolePunching(holepunch.DirectDialTimeout(directDial)))
	}
	if o.nameServer != "" {
		resolver, err := madns.NewResolver(madns.WithDefaultResolver(&net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, kind, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, kind, o.nameServer)
			},
		}))
		if err != nil {
			return nil, err
		}
		list = append(list, libp2p.MultiaddrResolver(swarm.ResolverFromMaDNS{Resolver: resolver}))
	}
	return list, nil
}

// punchable waits until hole punching has begun: a quarter of a second or more after the host knows where others see it.
func punchable(ctx context.Context, h host.Host) error {
	for !slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// startAutonat begins AutoNAT v2, both sides: not by libp2p's own option, which asks by itself and wants several servers.
func (n *node) startAutonat() error {
	dialler, err := libp2p.New(
		libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport), libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		return err
	}
	if n.autonat, err = autonatv2.New(dialler); err != nil {
		return err
	}
	return n.autonat.Start(n.host)
}

// reachability asks a server of AutoNAT v2 about one address.
func reachability(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.autonat == nil {
		return nil, errNoAutonat
	}
	address, err := ma.NewMultiaddr(cmd.Address)
	if err != nil {
		return nil, err
	}
	result, err := n.autonat.GetReachability(ctx, []autonatv2.Request{{Addr: address, SendDialData: true}})
	if err != nil {
		return nil, err
	}
	if result.AllAddrsRefused {
		return nil, errors.New("the server refuses to dial the address")
	}
	return object{"reachable": result.Reachability == network.ReachabilityPublic}, nil
}

func reserve(ctx context.Context, n *node, cmd *command) (object, error) {
	relay, err := peer.AddrInfoFromString(cmd.Address)
	if err != nil {
		return nil, err
	}
	if err := n.host.Connect(ctx, *relay); err != nil {
		return nil, err
	}
	place, err := client.Reserve(ctx, n.host, *relay)
	if err != nil {
		return nil, err
	}
	return object{"addresses": texts(place.Addrs, "")}, nil
}

// finder tells of peers that multicast DNS finds.
type finder struct{ out *output }

func (f finder) HandlePeerFound(found peer.AddrInfo) {
	f.out.write(object{"event": "found", "peer_id": found.ID.String(), "addresses": texts(found.Addrs, "")})
}

func startMdns(h host.Host, out *output) error {
	return mdns.NewMdnsService(h, "", finder{out}).Start()
}
