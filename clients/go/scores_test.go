package sidecar_test

import (
	"context"
	"testing"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func (f *fake) SetPeerScore(_ context.Context, request *pb.SetPeerScoreRequest) (*pb.SetPeerScoreResponse, error) {
	f.scored = request
	return &pb.SetPeerScoreResponse{}, nil
}

func TestScores(t *testing.T) {
	f := started(t)
	f.score = &pb.PeerScore{
		Score: -70, Standing: pb.PeerStanding_PEER_STANDING_NO_PUBLISH, Reason: "invalid messages",
		Topics: []*pb.TopicScore{{
			Topic: "news", TimeInMesh: 1, FirstDeliveries: 4, MeshDeliveries: -2, MeshFailures: -3, InvalidMessages: -75,
		}},
		Application: 9, Colocation: -1, Behaviour: -2, Slow: -1,
	}
	node := connected(t, f)
	noError(t, node.SetPeerScore(t.Context(), other, -4.5, time.Minute))
	equal(t, "score", f.scored.GetScore(), -4.5)
	equal(t, "duration", f.scored.GetDuration().AsDuration(), time.Minute)
	noError(t, node.SetPeerScore(t.Context(), other, 0, 0))
	if f.scored.GetDuration() != nil {
		t.Error("a duration that nobody gave")
	}
	found, err := node.Peer(t.Context(), other)
	noError(t, err)
	equal(t, "standing", found.Score.Standing.String(), "NO_PUBLISH")
	equal(t, "peer", *found.Score, sidecar.PeerScore{
		Score: -70, Standing: sidecar.StandingNoPublish, Reason: "invalid messages",
		Topics: []sidecar.TopicScore{{
			Topic: "news", TimeInMesh: 1, FirstDeliveries: 4, MeshDeliveries: -2, MeshFailures: -3, InvalidMessages: -75,
		}},
		Application: 9, Colocation: -1, Behaviour: -2, Slow: -1,
	})
}
