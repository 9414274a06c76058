package sidecar

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Ban is a peer, or an IP address or network, that the sidecar refuses; the other of the two is empty.
type Ban struct {
	PeerID  string
	Network string
	Reason  string
	// CreateTime is when it was banned; the zero time for entries of deny lists.
	CreateTime time.Time
	// ExpireTime is when the ban ends; the zero time when it does not end by itself.
	ExpireTime time.Time
	// Configured says that it stands in a deny list of the sidecar's configuration.
	Configured bool
	// Refused counts the connections and dials that it refused since the sidecar started.
	Refused uint64
}

// Banned is what came of a ban.
type Banned struct {
	Bans              []Ban
	ConnectionsClosed uint32
	// Warnings are sentences about what else there is to know, such as that a bootstrap peer is banned.
	Warnings []string
}

// BanOption is an option of [Client.BanPeer]: [WithReason], [WithDuration].
type BanOption interface {
	ban(*sidecarv1.BanPeerRequest)
}

type banSetting func(*sidecarv1.BanPeerRequest)

func (s banSetting) ban(request *sidecarv1.BanPeerRequest) { s(request) }

// WithReason says why, for those who look at the ban later.
func WithReason(reason string) BanOption {
	return banSetting(func(request *sidecarv1.BanPeerRequest) { request.Reason = reason })
}

// WithDuration says for how long; without it, a ban lasts until [Client.AllowPeer].
func WithDuration(duration time.Duration) BanOption {
	return banSetting(func(request *sidecarv1.BanPeerRequest) { request.Duration = durationpb.New(duration) })
}

// BanPeer refuses a peer, an IP address or network such as 192.0.2.0/24, or both; the other may be empty. Its connections
// are closed, and the ban outlasts a restart of the sidecar. ErrSelfDial, ErrResourceExhausted.
func (c *Client) BanPeer(ctx context.Context, peerID, network string, options ...BanOption) (Banned, error) {
	var response sidecarv1.BanPeerResponse
	request := &sidecarv1.BanPeerRequest{PeerId: peerID, Network: network}
	for _, option := range options {
		option.ban(request)
	}
	err := c.link.unary(ctx, sidecarv1.PeerService_BanPeer_FullMethodName, request, &response, again)
	if err != nil {
		return Banned{}, err
	}
	banned := Banned{ConnectionsClosed: response.GetConnectionsClosed(), Warnings: response.GetWarnings()}
	for _, message := range response.GetBans() {
		banned.Bans = append(banned.Bans, banOf(message))
	}
	return banned, nil
}

// AllowPeer lifts the ban of a peer, of exactly this IP address or network, or both; it says what else there is to know,
// such as what still refuses the peer. ErrNotFound when there is no such ban.
func (c *Client) AllowPeer(ctx context.Context, peerID, network string) ([]string, error) {
	var response sidecarv1.AllowPeerResponse
	request := &sidecarv1.AllowPeerRequest{PeerId: peerID, Network: network}
	err := c.link.unary(ctx, sidecarv1.PeerService_AllowPeer_FullMethodName, request, &response, once)
	return response.GetWarnings(), err
}

// Bans gives the entries of the configuration's deny lists, then the bans, asking for page after page.
func (c *Client) Bans(ctx context.Context) iter.Seq2[Ban, error] {
	return func(yield func(Ban, error) bool) {
		request := &sidecarv1.ListBansRequest{}
		for {
			var response sidecarv1.ListBansResponse
			err := c.link.unary(ctx, sidecarv1.PeerService_ListBans_FullMethodName, request, &response, again)
			if err != nil {
				yield(Ban{}, err)
				return
			}
			for _, message := range response.GetBans() {
				if !yield(banOf(message), nil) {
					return
				}
			}
			if request.PageToken = response.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// ProtectPeer keeps a peer's connections from being closed because there are too many; it says what else there is to know.
func (c *Client) ProtectPeer(ctx context.Context, peerID string) ([]string, error) {
	var response sidecarv1.ProtectPeerResponse
	request := &sidecarv1.ProtectPeerRequest{PeerId: peerID}
	err := c.link.unary(ctx, sidecarv1.PeerService_ProtectPeer_FullMethodName, request, &response, again)
	return response.GetWarnings(), err
}

// UnprotectPeer ends what ProtectPeer did; it says what else there is to know, such as what still protects the peer.
func (c *Client) UnprotectPeer(ctx context.Context, peerID string) ([]string, error) {
	var response sidecarv1.UnprotectPeerResponse
	request := &sidecarv1.UnprotectPeerRequest{PeerId: peerID}
	err := c.link.unary(ctx, sidecarv1.PeerService_UnprotectPeer_FullMethodName, request, &response, again)
	return response.GetWarnings(), err
}

func banOf(message *sidecarv1.Ban) Ban {
	return Ban{
		PeerID:     message.GetPeerId(),
		Network:    message.GetNetwork(),
		Reason:     message.GetReason(),
		CreateTime: moment(message.GetCreateTime()),
		ExpireTime: moment(message.GetExpireTime()),
		Configured: message.GetConfigured(),
		Refused:    message.GetRefused(),
	}
}
