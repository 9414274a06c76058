package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

// rsaBits is the least that go-libp2p takes.
const rsaBits = 2048

// privateKey makes the identity; only an Ed25519 key comes from the seed.
func privateKey(kind, seed string) (key crypto.PrivKey, err error) {
	switch kind {
	case "ed25519":
		raw, err := hex.DecodeString(seed)
		if err != nil || len(raw) != ed25519.SeedSize {
			return nil, fmt.Errorf("--key takes %d hex digits", 2*ed25519.SeedSize)
		}
		return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(raw))
	case "secp256k1":
		key, _, err = crypto.GenerateKeyPair(crypto.Secp256k1, 0)
	case "ecdsa":
		key, _, err = crypto.GenerateKeyPair(crypto.ECDSA, 0)
	case "rsa":
		key, _, err = crypto.GenerateKeyPair(crypto.RSA, rsaBits)
	default:
		err = fmt.Errorf("--key-type %s is none of ed25519, secp256k1, ecdsa, rsa", kind)
	}
	return key, err
}

// webSocket gives the options of the WebSocket transport.
func (o options) webSocket() ([]any, error) {
	list := []any{}
	if o.tlsCert != "" {
		certificate, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
		if err != nil {
			return nil, err
		}
		list = append(list, websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}))
	}
	if o.tlsCA != "" {
		pem, err := os.ReadFile(o.tlsCA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", o.tlsCA)
		}
		list = append(list, websocket.WithTLSClientConfig(&tls.Config{RootCAs: pool}))
	}
	return list, nil
}

// networking gives the options of private networks, announced addresses, and of what reach.go is about.
func (o options) networking() ([]libp2p.Option, error) {
	list, err := o.reaching()
	if err != nil {
		return nil, err
	}
	if o.psk != "" {
		content, err := os.ReadFile(o.psk)
		if err != nil {
			return nil, err
		}
		key, err := pnet.DecodeV1PSK(bytes.NewReader(content))
		if err != nil {
			return nil, err
		}
		list = append(list, libp2p.PrivateNetwork(key))
	}
	if o.announce != "" {
		address, err := ma.NewMultiaddr(o.announce)
		if err != nil {
			return nil, err
		}
		list = append(list, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return []ma.Multiaddr{address} }))
	}
	return list, nil
}

// gossipVersion offers gossipsub up to a version, without floodsub.
func (o options) gossipVersion() []pubsub.Option {
	if o.gossip == "latest" {
		return nil
	}
	offered := []protocol.ID{}
	for _, id := range pubsub.GossipSubDefaultProtocols {
		version, found := strings.CutPrefix(string(id), "/meshsub/")
		if found && strings.TrimSuffix(version, ".0") <= o.gossip {
			offered = append(offered, id)
		}
	}
	return []pubsub.Option{pubsub.WithGossipSubProtocols(offered, pubsub.GossipSubDefaultFeatures)}
}

// meshShape gives the mesh's degree and the interval of heartbeats.
func (o options) meshShape() []pubsub.Option {
	if o.heartbeat == 0 && o.degree == 0 {
		return nil
	}
	parameters := pubsub.DefaultGossipSubParams()
	if o.heartbeat > 0 {
		parameters.HeartbeatInterval = time.Duration(o.heartbeat) * time.Millisecond
	}
	if o.degree > 0 {
		parameters.D, parameters.Dlo, parameters.Dhi = o.degree, o.degree-1, o.degree+1
		parameters.Dscore, parameters.Dout = o.degree-1, 1
	}
	return []pubsub.Option{pubsub.WithGossipSubParams(parameters)}
}

// addRate takes one TOPIC=RATE.
func (o *options) addRate(text string) error {
	topic, number, _ := strings.Cut(text, "=")
	rate, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return err
	}
	if o.rates == nil {
		o.rates = map[string]float64{}
	}
	o.rates[topic] = rate
	return nil
}

// dhtRecords gives the rules for values and how long they and providers are kept.
func (o options) dhtRecords() []dht.Option {
	list := []dht.Option{dht.NamespacedValidator("interop", validator{})}
	if o.recordTTL > 0 {
		ttl := time.Duration(o.recordTTL * float64(time.Second))
		list = append(list, dht.MaxRecordAge(ttl), dht.ProviderManagerOpts(records.ProvideValidity(ttl)))
	}
	return list
}

// validator is the rule that ../README.md sets for the keys /interop/NAME.
type validator struct{}

func (validator) Validate(_ string, value []byte) error {
	if bytes.HasPrefix(value, []byte("bad")) {
		return errors.New("the value begins with bad")
	}
	return nil
}

func (validator) Select(_ string, values [][]byte) (int, error) {
	best := slices.MaxFunc(values, bytes.Compare)
	return slices.IndexFunc(values, func(value []byte) bool { return bytes.Equal(value, best) }), nil
}
