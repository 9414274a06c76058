package sidecar_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func (f *fake) BanPeer(_ context.Context, request *pb.BanPeerRequest) (*pb.BanPeerResponse, error) {
	ban := &pb.Ban{PeerId: request.GetPeerId(), Reason: request.GetReason(), CreateTime: timestamppb.New(time.Unix(9, 0))}
	if request.GetDuration() != nil {
		ban.ExpireTime = timestamppb.New(time.Unix(9, 0).Add(request.GetDuration().AsDuration()))
	}
	bans := []*pb.Ban{ban}
	if request.GetNetwork() != "" {
		bans = append(bans, &pb.Ban{Network: request.GetNetwork(), Refused: 3})
	}
	return &pb.BanPeerResponse{Bans: bans, ConnectionsClosed: 2, Warnings: []string{"it is a bootstrap peer"}}, nil
}

func (f *fake) AllowPeer(_ context.Context, request *pb.AllowPeerRequest) (*pb.AllowPeerResponse, error) {
	if request.GetNetwork() != "" {
		return nil, refused(codes.NotFound, "NOT_FOUND", "it is not banned", "", 0)
	}
	return &pb.AllowPeerResponse{Warnings: []string{"still refused"}}, nil
}

func (f *fake) ListBans(_ context.Context, request *pb.ListBansRequest) (*pb.ListBansResponse, error) {
	if request.GetPageToken() == "" {
		return &pb.ListBansResponse{Bans: []*pb.Ban{{Network: "::1", Configured: true}}, NextPageToken: "more"}, nil
	}
	return &pb.ListBansResponse{Bans: []*pb.Ban{{PeerId: other}}}, nil
}

func (f *fake) ProtectPeer(context.Context, *pb.ProtectPeerRequest) (*pb.ProtectPeerResponse, error) {
	return &pb.ProtectPeerResponse{Warnings: []string{"not kept"}}, nil
}

func (f *fake) UnprotectPeer(context.Context, *pb.UnprotectPeerRequest) (*pb.UnprotectPeerResponse, error) {
	return &pb.UnprotectPeerResponse{Warnings: []string{"still protected"}}, nil
}

func TestBans(t *testing.T) {
	node := connected(t, started(t))
	banned, err := node.BanPeer(t.Context(), other, "", sidecar.WithReason("spam"), sidecar.WithDuration(time.Minute))
	noError(t, err)
	equal(t, "banned", banned, sidecar.Banned{
		Bans:              []sidecar.Ban{{PeerID: other, Reason: "spam", CreateTime: time.Unix(9, 0).UTC(), ExpireTime: time.Unix(69, 0).UTC()}},
		ConnectionsClosed: 2, Warnings: []string{"it is a bootstrap peer"},
	})
	banned, err = node.BanPeer(t.Context(), other, "192.0.2.0/24")
	noError(t, err)
	equal(t, "network", banned.Bans[1], sidecar.Ban{Network: "192.0.2.0/24", Refused: 3})
	warnings, err := node.AllowPeer(t.Context(), other, "")
	noError(t, err)
	equal(t, "allowed", warnings, []string{"still refused"})
	_, err = node.AllowPeer(t.Context(), "", "192.0.2.7")
	wantError(t, err, sidecar.ErrNotFound)
	var found []sidecar.Ban
	for ban, err := range node.Bans(t.Context()) {
		noError(t, err)
		found = append(found, ban)
	}
	equal(t, "bans", found, []sidecar.Ban{{Network: "::1", Configured: true}, {PeerID: other}})
	for range node.Bans(t.Context()) {
		break
	}
	warnings, err = node.ProtectPeer(t.Context(), other)
	noError(t, err)
	equal(t, "protected", warnings, []string{"not kept"})
	warnings, err = node.UnprotectPeer(t.Context(), other)
	noError(t, err)
	equal(t, "unprotected", warnings, []string{"still protected"})
}
