package sidecar_test

import (
	"context"
	"testing"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func (f *fake) SetRules(_ context.Context, request *pb.SetRulesRequest) (*pb.SetRulesResponse, error) {
	f.ruled = request
	return &pb.SetRulesResponse{}, nil
}

func (f *fake) ListRules(context.Context, *pb.ListRulesRequest) (*pb.ListRulesResponse, error) {
	return &pb.ListRulesResponse{Rules: []*pb.Rule{{
		Name: "size", Topics: []string{"news.*"}, Description: "short; else ignore", Configured: true,
		Counts: []*pb.RuleCount{{Topic: "news.eu", Limit: "max_payload", Messages: 3}},
	}}}, nil
}

func TestRulesAreSetAndListed(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	noError(t, node.SetRules(t.Context(), "[[rule]]"))
	equal(t, "rules", f.ruled.GetRules(), "[[rule]]")
	rules, err := node.Rules(t.Context())
	noError(t, err)
	equal(t, "rules", rules, []sidecar.Rule{{
		Name: "size", Topics: []string{"news.*"}, Description: "short; else ignore", Configured: true,
		Counts: []sidecar.RuleCount{{Topic: "news.eu", Limit: "max_payload", Messages: 3}},
	}})
}
