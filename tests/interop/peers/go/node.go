package main

import (
	"context"
	"crypto/sha256"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

// queueSize replaces the queues of 32 of go-libp2p-pubsub, which lose messages of a flood without a word.
const queueSize = 8192

type options struct {
	listen                                                  []string
	network, key, keyType, dht, sign, psk, gossip, announce string
	tlsCert, tlsKey, tlsCA, nameServer                      string
	recordTTL                                               float64
	relay, autonat, punch, mdns                             bool
	heartbeat, degree                                       int
	rates                                                   map[string]float64
}

type node struct {
	out    *output
	host   host.Host
	dht    *dht.IpfsDHT
	pubsub *pubsub.PubSub
	mesh   *meshTracer
	acked  *counter

	autonat *autonatv2.AutoNAT
	punches bool

	mutex         sync.Mutex
	topics        map[string]*pubsub.Topic
	subscriptions map[string]*subscription
	scores        map[string]*watched
	records       map[peer.ID]*record.Envelope // the host's peer store keeps those of identify no more

	streams *streams
}

func newNode(o options, out *output) (*node, error) {
	key, err := privateKey(o.keyType, o.key)
	if err != nil {
		return nil, err
	}
	ws, err := o.webSocket()
	if err != nil {
		return nil, err
	}
	settings := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.ProtocolVersion("sidecar/" + o.network),
		libp2p.UserAgent(userAgent()),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New, ws...),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableMetrics(),
		libp2p.NoListenAddrs,
	}
	if len(o.listen) > 0 {
		settings = append(settings, libp2p.ListenAddrStrings(o.listen...))
	}
	more, err := o.networking()
	if err != nil {
		return nil, err
	}
	settings = append(settings, more...)
	h, err := libp2p.New(settings...)
	if err != nil {
		return nil, err
	}
	n := &node{
		out: out, host: h, acked: newCounter(), punches: o.punch,
		topics: map[string]*pubsub.Topic{}, subscriptions: map[string]*subscription{},
		scores: map[string]*watched{}, records: map[peer.ID]*record.Envelope{}, streams: newStreams(),
	}
	n.mesh = &meshTracer{out: out, peers: map[string]map[peer.ID]struct{}{}, spoken: map[peer.ID]protocol.ID{}}
	if n.pubsub, err = pubsub.NewGossipSub(context.Background(), h, n.gossipOptions(o)...); err != nil {
		return nil, err
	}
	if o.dht != "off" {
		if err := n.startDHT(o); err != nil {
			return nil, err
		}
	}
	if o.autonat {
		if err := n.startAutonat(); err != nil {
			return nil, err
		}
	}
	if o.mdns {
		if err := startMdns(h, out); err != nil {
			return nil, err
		}
	}
	h.SetStreamHandler(echoProtocol, handleEcho)
	h.SetStreamHandler(ackProtocol, n.handleAck)
	h.SetStreamHandler(sinkProtocol, handleSink)
	h.SetStreamHandler(sourceProtocol, handleSource)
	return n, n.watch()
}

func (n *node) gossipOptions(o options) []pubsub.Option {
	shared := []pubsub.Option{
		pubsub.WithPeerOutboundQueueSize(queueSize),
		pubsub.WithValidateQueueSize(queueSize),
		pubsub.WithValidateThrottle(queueSize),
		pubsub.WithRawTracer(n.mesh),
		pubsub.WithPeerExchange(true),
	}
	shared = append(shared, n.scoring(o)...)
	shared = append(shared, o.gossipVersion()...)
	shared = append(shared, o.meshShape()...)
	shared = append(shared, pubsub.WithTestExtension(pubsub.TestExtensionConfig{
		OnReceiveTestExtension: func(from peer.ID) {
			n.out.write(object{"event": "test_extension", "peer_id": from.String()})
		},
	}))
	if o.sign == "none" {
		return append(shared,
			pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
			pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string {
				sum := sha256.Sum256(m.GetData())
				return string(sum[:])
			}))
	}
	return append(shared, pubsub.WithMessageSignaturePolicy(pubsub.StrictSign)) // its ids are from + seqno already
}

func (n *node) startDHT(o options) error {
	mode := dht.ModeServer
	if o.dht == "client" {
		mode = dht.ModeClient
	}
	var err error
	n.dht, err = dht.New(n.host,
		append(o.dhtRecords(),
			dht.ProtocolPrefix(protocol.ID("/sidecar/"+o.network)), dht.Mode(mode), dht.DisableAutoRefresh())...)
	if err != nil {
		return err
	}
	table := n.dht.RoutingTable()
	tag := table.PeerAdded
	table.PeerAdded = func(p peer.ID) {
		tag(p)
		n.out.write(object{"event": "dht_peer", "peer_id": p.String()})
	}
	return nil
}

func (n *node) watch() error {
	n.host.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			n.out.write(object{
				"event": "connected", "peer_id": c.RemotePeer().String(),
				"address": c.RemoteMultiaddr().String(), "direction": direction(c),
			})
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			n.out.write(object{"event": "disconnected", "peer_id": c.RemotePeer().String()})
		},
	})
	identified, err := n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	go func() {
		known := map[string]struct{}{} // connections that were identified: what comes again was pushed
		for e := range identified.Out() {
			told := e.(event.EvtPeerIdentificationCompleted)
			if told.SignedPeerRecord != nil {
				n.mutex.Lock()
				n.records[told.Peer] = told.SignedPeerRecord
				n.mutex.Unlock()
			}
			if _, again := known[told.Conn.ID()]; !again {
				known[told.Conn.ID()] = struct{}{}
				n.out.write(object{"event": "identified", "peer_id": told.Peer.String()})
				continue
			}
			n.out.write(object{
				"event": "pushed", "peer_id": told.Peer.String(), "protocols": told.Protocols,
				"addresses": texts(told.ListenAddrs, ""),
			})
		}
	}()
	return nil
}

func direction(c network.Conn) string {
	return strings.ToLower(c.Stat().Direction.String())
}

func (n *node) addresses() []string {
	suffix := "/p2p/" + n.host.ID().String()
	return texts(n.host.Addrs(), suffix)
}

func texts(addresses []ma.Multiaddr, suffix string) []string {
	list := make([]string, 0, len(addresses))
	for _, address := range addresses {
		list = append(list, address.String()+suffix)
	}
	return list
}

// userAgent names go-libp2p with the version that the build pinned.
func userAgent() string {
	const path = "github.com/libp2p/go-libp2p"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == path {
				return "go-libp2p/" + strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "go-libp2p"
}
