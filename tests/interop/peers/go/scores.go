package main

import (
	"context"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/protoio"
	"google.golang.org/protobuf/proto"
)

const inspectEvery = 100 * time.Millisecond

// scoring keeps scores that only misbehaviour lowers: many peers on one host are no offence here.
func (n *node) scoring() []pubsub.Option {
	parameters := &pubsub.PeerScoreParams{
		AppSpecificScore:          func(peer.ID) float64 { return 0 },
		BehaviourPenaltyWeight:    -10,
		BehaviourPenaltyThreshold: 0,
		BehaviourPenaltyDecay:     0.999, // slow, so that a test sees what happened
		DecayInterval:             time.Second,
		DecayToZero:               0.01,
		RetainScore:               time.Minute,
		Topics:                    map[string]*pubsub.TopicScoreParams{},
	}
	thresholds := &pubsub.PeerScoreThresholds{
		GossipThreshold: -1000, PublishThreshold: -2000, GraylistThreshold: -3000,
		AcceptPXThreshold: 0, OpportunisticGraftThreshold: 1,
	}
	inspect := func(scores map[peer.ID]float64) {
		told := map[string]float64{}
		for p, score := range scores {
			told[p.String()] = score
		}
		n.mutex.Lock()
		defer n.mutex.Unlock()
		n.scores = told
	}
	return []pubsub.Option{
		pubsub.WithPeerScore(parameters, thresholds), pubsub.WithPeerScoreInspect(inspect, inspectEvery),
	}
}

func takeScores(_ context.Context, n *node, _ *command) (object, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return object{"scores": n.scores}, nil
}

func gossipPeers(_ context.Context, n *node, _ *command) (object, error) {
	return object{"peers": n.mesh.protocols()}, nil
}

// publishTampered signs a message, changes its data, and sends it to one peer on a stream of its own.
func publishTampered(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	message := &pb.Message{
		From: []byte(n.host.ID()), Data: append([]byte(nil), cmd.Data...), Topic: &cmd.Topic,
		Seqno: fmt.Appendf(nil, "%08d", time.Now().UnixNano()%100_000_000),
	}
	raw, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	key := n.host.Peerstore().PrivKey(n.host.ID())
	if message.Signature, err = key.Sign(append([]byte(pubsub.SignPrefix), raw...)); err != nil {
		return nil, err
	}
	message.Data[0] ^= 1
	stream, err := n.host.NewStream(ctx, target, pubsub.GossipSubID_v11)
	if err != nil {
		return nil, err
	}
	if err := protoio.NewDelimitedWriter(stream).WriteMsg(&pb.RPC{Publish: []*pb.Message{message}}); err != nil {
		return nil, err
	}
	return nil, stream.CloseWrite()
}
