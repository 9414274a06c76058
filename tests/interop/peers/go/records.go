package main

import (
	"context"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"
)

func protocolAdd(_ context.Context, n *node, cmd *command) (object, error) {
	n.host.SetStreamHandler(protocol.ID(cmd.Protocol), handleEcho)
	return nil, nil
}

func protocolRemove(_ context.Context, n *node, cmd *command) (object, error) {
	n.host.RemoveStreamHandler(protocol.ID(cmd.Protocol))
	return nil, nil
}

func listenAdd(_ context.Context, n *node, cmd *command) (object, error) {
	address, err := ma.NewMultiaddr(cmd.Address)
	if err != nil {
		return nil, err
	}
	if err := n.host.Network().Listen(address); err != nil {
		return nil, err
	}
	addresses, err := n.host.Network().InterfaceListenAddresses()
	return object{"addresses": texts(addresses, "/p2p/"+n.host.ID().String())}, err
}

func signedRecord(_ context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	n.mutex.Lock()
	envelope := n.records[target]
	n.mutex.Unlock()
	if envelope == nil {
		return object{"record": nil}, nil
	}
	record, err := envelope.Marshal()
	return object{"record": record}, err
}

func putValue(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	return nil, n.dht.PutValue(ctx, string(cmd.Key), cmd.Value)
}

func getValue(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	value, err := n.dht.GetValue(ctx, string(cmd.Key))
	return object{"value": value}, err
}

// rendezvous is the key of a name, as go-libp2p's routing discovery makes it.
func rendezvous(name string) (cid.Cid, error) {
	hash, err := mh.Sum([]byte(name), mh.SHA2_256, -1)
	if err != nil {
		return cid.Undef, err
	}
	return cid.NewCidV1(cid.Raw, hash), nil
}

func provide(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	key, err := rendezvous(cmd.Name)
	if err != nil {
		return nil, err
	}
	return nil, n.dht.Provide(ctx, key, true)
}

func findProviders(ctx context.Context, n *node, cmd *command) (object, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	key, err := rendezvous(cmd.Name)
	if err != nil {
		return nil, err
	}
	list := []object{}
	for found := range n.dht.FindProvidersAsync(ctx, key, max(cmd.Count, 1)) {
		list = append(list, object{"peer_id": found.ID.String(), "addresses": texts(found.Addrs, "")})
	}
	return object{"peers": list}, nil
}
