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

{{- define "sidecar.testSelectorLabels" -}}
app.kubernetes.io/name: {{ include "sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "sidecar.testLabels" -}}
{{ include "sidecar.testSelectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
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

{{/* Where nodes join the mesh, by a name that leads there from every namespace. */}}
{{- define "sidecar.bootstrapPeers" -}}
{{- if .Values.network.bootstrapPeers }}
{{- join "," .Values.network.bootstrapPeers }}
{{- else if .Values.bootstrap.enabled -}}
{{ include "sidecar.bootstrapAddress" (dict "context" . "namespace" .Release.Namespace) }}
{{- end }}
{{- end }}

{{/* The headless service's name as an address. Called with the context, `namespace` and, for one node of it, `host`, with its dot. */}}
{{- define "sidecar.bootstrapAddress" -}}
{{- with .context -}}
/{{ eq .Values.network.ipFamily "IPv6" | ternary "dns6" "dns4" }}/{{ $.host }}{{ include "sidecar.bootstrapName" . }}.{{ $.namespace }}.svc.{{ .Values.network.clusterDomain }}/tcp/{{ .Values.network.port }}
{{- end }}
{{- end }}

{{- define "sidecar.commonEnv" -}}
- name: SIDECAR_NETWORK_NAME
  value: {{ .Values.network.name | quote }}
- name: SIDECAR_LISTEN_ADDRESSES
  value: {{ eq .Values.network.ipFamily "IPv6" | ternary "/ip6/::" "/ip4/0.0.0.0" }}/tcp/{{ .Values.network.port }}
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

{{/* ------------------------------------------------------------ what an upgrade cannot change */}}

{{/* Fail, with a sentence for each, where the cluster has objects of ours whose fixed fields would change. Without a cluster nothing is looked up. */}}
{{- define "sidecar.refuseWhatIsFixed" -}}
{{- $name := include "sidecar.bootstrapName" . }}
{{- $persistence := .Values.bootstrap.persistence }}
{{- $wrong := list }}
{{- with lookup "apps/v1" "StatefulSet" .Release.Namespace $name }}
{{- $claims := .spec.volumeClaimTemplates | default list }}
{{- if ne (gt (len $claims) 0) $persistence.enabled }}
{{- $wrong = append $wrong (printf "bootstrap.persistence.enabled cannot change from %t to %t" (not $persistence.enabled) $persistence.enabled) }}
{{- else if $claims }}
{{- $claim := (first $claims).spec }}
{{- $size := $claim.resources.requests.storage }}
{{- if ne (include "sidecar.bytes" $size) (include "sidecar.bytes" $persistence.size) }}
{{- $wrong = append $wrong (printf "bootstrap.persistence.size cannot change from %v to %v" $size $persistence.size) }}
{{- end }}
{{- $class := $claim.storageClassName | default "" }}
{{- if ne $class $persistence.storageClass }}
{{- $wrong = append $wrong (printf "bootstrap.persistence.storageClass cannot change from %q to %q" $class $persistence.storageClass) }}
{{- end }}
{{- if ne (toJson $claim.accessModes) (toJson $persistence.accessModes) }}
{{- $wrong = append $wrong (printf "bootstrap.persistence.accessModes cannot change from %s to %s" (toJson $claim.accessModes) (toJson $persistence.accessModes)) }}
{{- end }}
{{- end }}
{{- $label := index .spec.selector.matchLabels "app.kubernetes.io/name" }}
{{- if ne $label (include "sidecar.name" $) }}
{{- $wrong = append $wrong (printf "nameOverride cannot change: the pods are found by the name %q, which would be %q" $label (include "sidecar.name" $)) }}
{{- end }}
{{- end }}
{{- with lookup "v1" "Service" .Release.Namespace $name }}
{{- $family := .spec.ipFamilies | default (list $.Values.network.ipFamily) | first }}
{{- if ne $family $.Values.network.ipFamily }}
{{- $wrong = append $wrong (printf "network.ipFamily cannot change from %s to %s" $family $.Values.network.ipFamily) }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "%s. Kubernetes fixes this when %s is made. Set the old value again, or see \"Upgrades\" in docs/operations.md for how to change it." (join "; " $wrong) $name) }}
{{- end }}
{{- end }}

{{/* A quantity as a number of bytes: 1Gi and 1024Mi are the same. */}}
{{- define "sidecar.bytes" -}}
{{- if kindIs "string" . }}
{{- $unit := regexFind "[A-Za-z]*$" . }}
{{- $factors := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- mulf (trimSuffix $unit . | float64) (get $factors $unit | default 1) | float64 | printf "%.0f" }}
{{- else }}
{{- float64 . | printf "%.0f" }}
{{- end }}
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
    {{- with include "sidecar.bootstrapPeers" . }}
    - name: SIDECAR_BOOTSTRAP_PEERS
      value: {{ . | quote }}
    {{- end }}
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

{{/* ------------------------------------------------------------ for `helm test` */}}

{{/* A pod with a sidecar and one command of it. Called with the context and `args`. */}}
{{- define "sidecar.testPod" -}}
{{- with .context -}}
serviceAccountName: {{ include "sidecar.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "sidecar.podSecurity" . | nindent 2 }}
initContainers:
  {{- include "sidecar.container" . | nindent 2 }}
containers:
  - name: {{ first $.args }}
    image: {{ include "sidecar.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: {{ concat (list "sidecar") $.args | toJson }}
    env:
      {{- include "sidecar.appEnv" . | nindent 6 }}
    volumeMounts:
      {{- include "sidecar.appVolumeMounts" . | nindent 6 }}
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 128Mi}
    securityContext:
      {{- include "sidecar.containerSecurity" . | nindent 6 }}
volumes:
  {{- include "sidecar.volumes" . | nindent 2 }}
{{- with .Values.bootstrap.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.bootstrap.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
# On two machines where that is possible.
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "sidecar.testSelectorLabels" . | nindent 14 }}
{{- end }}
{{- end }}
