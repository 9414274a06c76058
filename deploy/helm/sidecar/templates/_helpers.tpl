{{/* Names and labels */}}

{{- define "sidecar.name" -}}
{{- default "sidecar" .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "sidecar.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "sidecar.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sidecar.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sidecar.bootstrapName" -}}
{{ include "sidecar.fullname" . }}-bootstrap
{{- end }}

{{- define "sidecar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: bootstrap
{{- end }}

{{- define "sidecar.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}
{{- include "sidecar.bootstrapName" . }}
{{- else -}}
default
{{- end }}
{{- end }}

{{/* Pieces of a sidecar's container, beside an app or alone */}}

{{- define "sidecar.bootstrapPeers" -}}
{{- if .Values.network.bootstrapPeers }}
{{- join "," .Values.network.bootstrapPeers }}
{{- else if .Values.bootstrap.enabled -}}
/{{ eq .Values.network.ipFamily "IPv6" | ternary "dns6" "dns4" }}/{{ include "sidecar.bootstrapName" . }}.{{ .Release.Namespace }}.svc.{{ .Values.network.clusterDomain }}/tcp/{{ .Values.network.port }}
{{- end }}
{{- end }}

{{- define "sidecar.commonEnv" -}}
- name: SIDECAR_NETWORK_NAME
  value: {{ .Values.network.name | quote }}
- name: SIDECAR_LISTEN_ADDRESSES
  value: {{ eq .Values.network.ipFamily "IPv6" | ternary "/ip6/::" "/ip4/0.0.0.0" }}/tcp/{{ .Values.network.port }}
{{- with include "sidecar.bootstrapPeers" . }}
- name: SIDECAR_BOOTSTRAP_PEERS
  value: {{ . | quote }}
{{- end }}
{{- if .Values.network.pskSecret }}
- name: SIDECAR_NETWORK_PSK_FILE
  value: /run/secrets/sidecar-network/swarm.key
{{- end }}
{{- if .Values.metrics.enabled }}
- name: SIDECAR_METRICS_LISTEN
  value: {{ printf "%s:%v" (eq .Values.network.ipFamily "IPv6" | ternary "[::]" "0.0.0.0") .Values.metrics.port | quote }}
{{- end }}
{{- range $section, $keys := .Values.config }}
{{- range $key, $value := $keys }}
- name: {{ printf "SIDECAR_%s_%s" $section $key | upper }}
  value: {{ kindIs "slice" $value | ternary (join "," (kindIs "slice" $value | ternary $value list)) (toString $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sidecar.ports" -}}
- name: p2p
  containerPort: {{ .Values.network.port }}
  protocol: TCP
{{- if .Values.metrics.enabled }}
- name: metrics
  containerPort: {{ .Values.metrics.port }}
  protocol: TCP
{{- end }}
{{- end }}

{{/* A probe. Called with the context and `path`; the exec form costs the start of an interpreter each time. */}}
{{- define "sidecar.probe" -}}
{{- if .context.Values.metrics.enabled -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{- else -}}
exec:
  command: {{ eq .path "/live" | ternary (list "sidecar" "health" "--live") (list "sidecar" "health") | toJson }}
{{- end }}
timeoutSeconds: 5
{{- end }}

{{- define "sidecar.probes" -}}
startupProbe:
  {{- include "sidecar.probe" (dict "context" . "path" "/live") | nindent 2 }}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  {{- include "sidecar.probe" (dict "context" . "path" "/live") | nindent 2 }}
  periodSeconds: {{ .Values.probes.periodSeconds }}
  failureThreshold: {{ .Values.probes.failureThreshold }}
{{- if .Values.probes.readiness }}
readinessProbe:
  {{- include "sidecar.probe" (dict "context" . "path" "/ready") | nindent 2 }}
  periodSeconds: {{ .Values.probes.periodSeconds }}
  failureThreshold: {{ .Values.probes.failureThreshold }}
{{- end }}
{{- end }}

{{- define "sidecar.containerSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* ------------------------------------------------------------ for apps' charts; see README.md */}}

{{/* The sidecar as an entry of `initContainers`: started before the app, ended after it, and no hindrance to a Job's end. */}}
{{- define "sidecar.container" -}}
- name: sidecar
  image: {{ include "sidecar.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  env:
    - name: POD_IP
      valueFrom:
        fieldRef:
          fieldPath: status.podIP
    - name: SIDECAR_LISTEN_ANNOUNCE
      value: /{{ eq .Values.network.ipFamily "IPv6" | ternary "ip6" "ip4" }}/$(POD_IP)/tcp/{{ .Values.network.port }}
    {{- include "sidecar.commonEnv" . | nindent 4 }}
    - name: SIDECAR_API_MODE
      value: {{ .Values.beside.socketMode | quote }}
    {{- if .Values.beside.identitySecret }}
    - name: SIDECAR_STATE_IDENTITY_FILE
      value: /run/secrets/sidecar-identity/identity.key
    {{- end }}
    {{- if .Values.beside.tokensSecret }}
    - name: SIDECAR_API_TOKENS
      value: /run/secrets/sidecar-tokens/tokens.json
    - name: SIDECAR_API_REQUIRE_TOKEN
      value: "true"
    {{- end }}
    {{- with .Values.beside.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- include "sidecar.ports" . | nindent 4 }}
  {{- include "sidecar.probes" . | nindent 2 }}
  resources:
    {{- toYaml .Values.beside.resources | nindent 4 }}
  securityContext:
    {{- include "sidecar.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: sidecar-api
      mountPath: /run/sidecar
    - name: sidecar-state
      mountPath: /var/lib/sidecar
    {{- if .Values.beside.identitySecret }}
    - name: sidecar-identity
      mountPath: /run/secrets/sidecar-identity
      readOnly: true
    {{- end }}
    {{- if .Values.beside.tokensSecret }}
    - name: sidecar-tokens
      mountPath: /run/secrets/sidecar-tokens
      readOnly: true
    {{- end }}
    {{- if .Values.network.pskSecret }}
    - name: sidecar-network
      mountPath: /run/secrets/sidecar-network
      readOnly: true
    {{- end }}
{{- end }}

{{/* The volumes that it needs, as entries of `volumes`. */}}
{{- define "sidecar.volumes" -}}
- name: sidecar-api
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: sidecar-state
  {{- if .Values.beside.stateClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.beside.stateClaim }}
  {{- else }}
  emptyDir:
    sizeLimit: 64Mi
  {{- end }}
{{- if .Values.beside.identitySecret }}
- name: sidecar-identity
  secret:
    secretName: {{ .Values.beside.identitySecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.beside.tokensSecret }}
- name: sidecar-tokens
  secret:
    secretName: {{ .Values.beside.tokensSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.network.pskSecret }}
- name: sidecar-network
  secret:
    secretName: {{ .Values.network.pskSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* Entries of `env` and of `volumeMounts` of the app's container. */}}
{{- define "sidecar.appEnv" -}}
- name: SIDECAR_API
  value: unix:/run/sidecar/api.sock
{{- end }}

{{- define "sidecar.appVolumeMounts" -}}
- name: sidecar-api
  mountPath: /run/sidecar
{{- end }}

{{/* Labels of the pod, by which its sidecar's metrics are found. */}}
{{- define "sidecar.podLabels" -}}
p2p-sidecar/network: {{ .Values.network.name | quote }}
{{- end }}

{{/* The `securityContext` of the pod: the group through which the socket and the secrets are reached. */}}
{{- define "sidecar.podSecurity" -}}
runAsNonRoot: true
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}
