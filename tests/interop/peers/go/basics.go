package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const echoProtocol = "/interop/echo/1"

var errNoDHT = errors.New("the DHT is off")

var handlers = map[string]handler{
	"connect":            connect,
	"disconnect":         disconnect,
	"peers":              peers,
	"reserve":            reserve,
	"reachability":       reachability,
	"ping":               pingPeer,
	"identify":           identify,
	"dht_peers":          dhtPeers,
	"find_peer":          findPeer,
	"closest_peers":      closestPeers,
	"echo":               echo,
	"subscribe":          subscribe,
	"unsubscribe":        unsubscribe,
	"topic_peers":        topicPeers,
	"mesh":               mesh,
	"publish":            publish,
	"flood":              flood,
	"tally":              takeTally,
	"echo_many":          echoMany,
	"connections":        connections,
	"protocol_add":       protocolAdd,
	"protocol_remove":    protocolRemove,
	"listen_add":         listenAdd,
	"signed_record":      signedRecord,
	"put_value":          putValue,
	"get_value":          getValue,
	"provide":            provide,
	"find_providers":     findProviders,
	"stream_open":        streamOpen,
	"stream_accept":      streamAccept,
	"stream_write":       streamWrite,
	"stream_read":        streamRead,
	"stream_close_write": streamCloseWrite,
	"stream_reset":       streamReset,
	"streams_reset":      streamsReset,
	"bulk":               bulk,
	"new_streams":        newStreamsOp,
	"scores":             takeScores,
	"publish_tampered":   publishTampered,
	"gossip_peers":       gossipPeers,
	"quit":               func(context.Context, *node, *command) (object, error) { return nil, nil },
}

func connect(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.AddrInfoFromString(cmd.Address)
	if err != nil {
		return nil, err
	}
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(target.ID) // an earlier failure would be answered with "dial backoff"
	}
	ctx = network.WithAllowLimitedConn(ctx, "through a relay is as good")
	if err := n.host.Connect(ctx, *target); err != nil {
		return nil, err
	}
	if n.punches {
		err = punchable(ctx, n.host)
	}
	return object{"peer_id": target.ID.String()}, err
}

func disconnect(_ context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	return nil, n.host.Network().ClosePeer(target)
}

func peers(_ context.Context, n *node, _ *command) (object, error) {
	list := []object{}
	for _, c := range n.host.Network().Conns() {
		list = append(list, object{
			"peer_id": c.RemotePeer().String(), "address": c.RemoteMultiaddr().String(), "direction": direction(c),
		})
	}
	return object{"peers": list}, nil
}

func pingPeer(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := <-ping.Ping(ctx, n.host, target)
	return object{"rtt_ms": milliseconds(result.RTT)}, result.Error
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func identify(_ context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	store := n.host.Peerstore()
	protocols, err := store.GetProtocols(target)
	if err != nil {
		return nil, err
	}
	version, err := store.Get(target, "ProtocolVersion")
	if err != nil {
		return nil, err
	}
	agent, err := store.Get(target, "AgentVersion")
	if err != nil {
		return nil, err
	}
	return object{
		"protocol_version": version, "agent_version": agent, "protocols": protocols,
		"addresses": texts(store.Addrs(target), ""),
	}, nil
}

func dhtPeers(_ context.Context, n *node, _ *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	list := []string{}
	for _, p := range n.dht.RoutingTable().ListPeers() {
		list = append(list, p.String())
	}
	return object{"peers": list}, nil
}

func findPeer(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	found, err := n.dht.FindPeer(ctx, target)
	return object{"addresses": texts(found.Addrs, "")}, err
}

func closestPeers(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	closest, err := n.dht.GetClosestPeers(ctx, string(target))
	list := []string{}
	for _, p := range closest {
		list = append(list, p.String())
	}
	return object{"peers": list}, err
}

func echo(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	stream, err := n.host.NewStream(ctx, target, echoProtocol)
	if err != nil {
		return nil, err
	}
	defer stream.Reset()
	if deadline, ok := ctx.Deadline(); ok {
		_ = stream.SetDeadline(deadline)
	}
	written := make(chan error, 1)
	go func() { // beside the reading: both windows may be smaller than the data
		_, err := stream.Write(cmd.Data)
		written <- errors.Join(err, stream.CloseWrite())
	}()
	data, err := io.ReadAll(stream)
	if err = errors.Join(err, <-written); err != nil {
		return nil, err
	}
	return object{"data": data}, stream.Close()
}

func handleEcho(stream network.Stream) {
	if _, err := io.Copy(stream, stream); err != nil {
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}
