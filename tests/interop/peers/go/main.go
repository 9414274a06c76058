// A go-libp2p node driven by JSON lines; ../README.md says how.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

// output serialises JSON lines on standard output.
type output struct {
	mutex   sync.Mutex
	encoder *json.Encoder
}

type object map[string]any

func (o *output) write(line object) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if err := o.encoder.Encode(line); err != nil {
		os.Exit(1) // nobody reads us any more
	}
}

// command holds the arguments of every op; each op reads its own.
type command struct {
	ID       int64   `json:"id"`
	Op       string  `json:"op"`
	Timeout  float64 `json:"timeout"`
	Address  string  `json:"address"`
	PeerID   string  `json:"peer_id"`
	Topic    string  `json:"topic"`
	Data     []byte  `json:"data"`
	Quiet    bool    `json:"quiet"`
	AckTo    string  `json:"ack_to"`
	Size     int     `json:"size"`
	Count    int     `json:"count"`
	Window   int     `json:"window"`
	Rate     float64 `json:"rate"`
	InFlight int     `json:"in_flight"`
	Protocol string  `json:"protocol"`
	Key      []byte  `json:"key"`
	Value    []byte  `json:"value"`
	Name     string  `json:"name"`
	Stream   int64   `json:"stream"`
	Send     int64   `json:"send"`
	Receive  int64   `json:"receive"`
}

type handler func(context.Context, *node, *command) (object, error)

func (n *node) run(line []byte) {
	cmd := &command{Timeout: 10}
	if err := json.Unmarshal(line, cmd); err != nil {
		n.out.write(object{"id": cmd.ID, "ok": false, "error": err.Error()})
		return
	}
	handle, known := handlers[cmd.Op]
	if !known {
		n.out.write(object{"id": cmd.ID, "ok": false, "error": "unknown op " + cmd.Op})
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(cmd.Timeout*float64(time.Second)))
		defer cancel()
		answer, err := handle(ctx, n, cmd)
		if err != nil {
			n.out.write(object{"id": cmd.ID, "ok": false, "error": err.Error()})
			return
		}
		if answer == nil {
			answer = object{}
		}
		answer["id"], answer["ok"] = cmd.ID, true
		n.out.write(answer)
		if cmd.Op == "quit" {
			os.Exit(0)
		}
	}()
}

func main() {
	var options options
	flag.Func("listen", "multiaddr to listen on; may be repeated", func(address string) error {
		options.listen = append(options.listen, address)
		return nil
	})
	flag.StringVar(&options.network, "network", "interop", "name of the network")
	flag.StringVar(&options.key, "key", "", "seed of the Ed25519 key, 64 hex digits")
	flag.StringVar(&options.dht, "dht", "off", "server, client or off")
	flag.StringVar(&options.sign, "sign", "strict", "strict or none")
	flag.StringVar(&options.keyType, "key-type", "ed25519", "ed25519, secp256k1, ecdsa or rsa")
	flag.StringVar(&options.tlsCert, "tls-cert", "", "PEM file, for listening on /tls/ws")
	flag.StringVar(&options.tlsKey, "tls-key", "", "PEM file")
	flag.StringVar(&options.tlsCA, "tls-ca", "", "PEM file of certificates trusted when dialling /tls/ws")
	flag.StringVar(&options.psk, "psk", "", "file with the key of a private network")
	flag.StringVar(&options.gossip, "gossip", "latest", "highest version of gossipsub offered: 1.0, 1.1, 1.2, latest")
	flag.Float64Var(&options.recordTTL, "record-ttl", 0, "seconds that values and providers are kept; 0: the default")
	flag.StringVar(&options.announce, "announce", "", "multiaddr told to others instead of the real ones")
	flag.BoolVar(&options.relay, "relay", false, "be a relay, and reach others through relays")
	flag.BoolVar(&options.autonat, "autonat", false, "AutoNAT v2: dial those that ask, and ask when told to")
	flag.BoolVar(&options.punch, "punch", false, "DCUtR: make connections through relays direct")
	flag.BoolVar(&options.mdns, "mdns", false, "multicast DNS: find, and be found")
	flag.StringVar(&options.nameServer, "dns", "", "IP:PORT of the name server to ask")
	flag.IntVar(&options.heartbeat, "heartbeat-ms", 0, "gossip's heartbeat interval in milliseconds; 0: the default")
	flag.IntVar(&options.degree, "degree", 0, "links that a mesh aims at; 0: the default")
	flag.Func("expected-rate", "TOPIC=RATE, messages a second by which its peers are scored; may be repeated", options.addRate)
	flag.Parse()

	out := &output{encoder: json.NewEncoder(os.Stdout)}
	node, err := newNode(options, out)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	out.write(object{
		"event": "ready", "peer_id": node.host.ID().String(), "addresses": node.addresses(), "agent": userAgent(),
	})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20) // a published message of 1 MiB, in base64
	for lines.Scan() {
		node.run(lines.Bytes())
	}
}
