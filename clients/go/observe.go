package sidecar

import (
	"context"
	"iter"
	"time"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Statistics are what the sidecar counts.
type Statistics struct {
	// Values are counters and gauges by name.
	Values map[string]float64
	// Histograms are what is counted by size, by name. protos/sidecar/v1/node.proto says what each one measures.
	Histograms map[string]Histogram
}

// Histogram is observations counted by upper bounds.
type Histogram struct {
	// UpperBounds are ascending; an observation belongs to the first bound that is not below it.
	UpperBounds []float64
	// Counts are the observations for each bound, not cumulative, and at the end those above all bounds.
	Counts []uint64
	// Sum is all observations added up.
	Sum float64
}

// ConfigurationEntry is a key of the sidecar's configuration and its value.
type ConfigurationEntry struct {
	// Name is the section and the key in it: gossip.degree.
	Name string
	// Value is as TOML has it: 6, "30s", ["/ip4/0.0.0.0/tcp/4001"].
	Value string
	// Source says where it was set: default, a place in a file, $VARIABLE or --flag.
	Source string
	// Reloadable says whether it changes when the sidecar reads its configuration again.
	Reloadable bool
}

// NodeEvent is a record of the sidecar's log.
type NodeEvent struct {
	Time time.Time
	// Severity is debug, info, warning or error.
	Severity string
	// Part is the part of the sidecar that says so: net, api.server.
	Part string
	// Message is a sentence for people.
	Message string
	// Fields are for programs: "peer" with a peer id.
	Fields map[string]string
}

// LogLevels are the levels of the sidecar's log: that of all parts that have none of their own, and those of parts.
type LogLevels struct {
	Level string
	Parts map[string]string
}

// Statistics gives counters and gauges, and histograms.
func (c *Client) Statistics(ctx context.Context) (Statistics, error) {
	var response sidecarv1.GetStatisticsResponse
	request := &sidecarv1.GetStatisticsRequest{}
	err := c.link.unary(ctx, sidecarv1.NodeService_GetStatistics_FullMethodName, request, &response, again)
	if err != nil {
		return Statistics{}, err
	}
	found := Statistics{Values: response.GetValues(), Histograms: make(map[string]Histogram)}
	for _, histogram := range response.GetHistograms() {
		found.Histograms[histogram.GetName()] = Histogram{
			UpperBounds: histogram.GetUpperBounds(), Counts: histogram.GetCounts(), Sum: histogram.GetSum(),
		}
	}
	return found, nil
}

// Configuration gives the configuration in force, key by key, and where each value was set. It has no secrets.
func (c *Client) Configuration(ctx context.Context) ([]ConfigurationEntry, error) {
	var response sidecarv1.GetConfigurationResponse
	request := &sidecarv1.GetConfigurationRequest{}
	err := c.link.unary(ctx, sidecarv1.NodeService_GetConfiguration_FullMethodName, request, &response, again)
	if err != nil {
		return nil, err
	}
	entries := make([]ConfigurationEntry, 0, len(response.GetEntries()))
	for _, entry := range response.GetEntries() {
		entries = append(entries, ConfigurationEntry{
			Name: entry.GetName(), Value: entry.GetValue(), Source: entry.GetSource(), Reloadable: entry.GetReloadable(),
		})
	}
	return entries, nil
}

// WatchEvents gives the newest records of the sidecar's log, at most 1,000, then more as they come. Where records were
// missed, Lagged says so; behind a lost connection (LagReconnected) the newest are told anew. It goes on until the loop or
// ctx ends; an error is the last thing that it gives.
func (c *Client) WatchEvents(ctx context.Context) iter.Seq2[Event[NodeEvent], error] {
	return func(yield func(Event[NodeEvent], error) bool) {
		watching := feed{
			link:   c.link,
			name:   "watching events",
			method: sidecarv1.NodeService_WatchEvents_FullMethodName,
			desc:   serverStreamCall,
			first:  func() any { return &sidecarv1.WatchEventsRequest{} },
		}
		watching.prepare(ctx)
		defer watching.close()
		for {
			var response sidecarv1.WatchEventsResponse
			lost, err := watching.next(&response)
			if err != nil {
				yield(Event[NodeEvent]{}, err)
				return
			}
			if lost && !yield(Event[NodeEvent]{Lagged: &Lagged{Reason: LagReconnected}}, nil) {
				return
			}
			if missed := response.GetLagged(); missed != nil && !yield(Event[NodeEvent]{Lagged: laggedOf(missed)}, nil) {
				return
			}
			for _, event := range response.GetEvents() {
				if !yield(Event[NodeEvent]{Message: nodeEvent(event)}, nil) {
					return
				}
			}
		}
	}
}

// SetLogLevel changes what the sidecar's log writes: from a level on (debug, info, warning, error) for a part, such as net,
// and all below it. An empty part means all that have no level of their own; with an empty level, the part has none of its
// own any more. It gives the levels in force. ErrInvalidArgument.
func (c *Client) SetLogLevel(ctx context.Context, part, level string) (LogLevels, error) {
	var response sidecarv1.SetLogLevelResponse
	request := &sidecarv1.SetLogLevelRequest{Part: part, Level: level}
	err := c.link.unary(ctx, sidecarv1.NodeService_SetLogLevel_FullMethodName, request, &response, again)
	return LogLevels{Level: response.GetLevel(), Parts: response.GetParts()}, err
}

func laggedOf(message *sidecarv1.Lagged) *Lagged {
	return &Lagged{Missed: message.GetMissed(), Known: message.Missed != nil, Reason: LagReason(message.GetReason())}
}

func nodeEvent(message *sidecarv1.NodeEvent) NodeEvent {
	return NodeEvent{
		Time:     moment(message.GetTime()),
		Severity: message.GetSeverity(),
		Part:     message.GetPart(),
		Message:  message.GetMessage(),
		Fields:   message.GetFields(),
	}
}
