{{/* What an operator reads after an install or upgrade. */}}
{{- define "penstock.notes" -}}
{{- $facts := include "penstock.facts" . | fromJson -}}
{{- $config := include "penstock.config" . | fromJson -}}
{{- $name := include "penstock.fullname" . -}}
{{- $workload := printf "%s/%s" (ternary "statefulset" "deploy" $facts.stateful) $name -}}
{{- $url := "http://localhost:8080" -}}
{{- if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{- $url = printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tls))) (first .Values.ingress.hosts).host -}}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
{{- $url = printf "https://%s" (first .Values.httpRoute.hostnames) -}}
{{- end -}}
Penstock {{ .Chart.AppVersion }} as {{ $workload }} in the namespace {{ .Release.Namespace }}.

{{- if eq $url "http://localhost:8080" }}

Reach it from this machine:
  kubectl -n {{ .Release.Namespace }} port-forward svc/{{ $name }} 8080:{{ int .Values.service.port }}
{{- end }}

Make the first key, which is shown once:
  kubectl -n {{ .Release.Namespace }} exec {{ $workload }} -c penstock -- penstock keys create --name first

Call a model with it:
  curl {{ $url }}/v1/models -H "Authorization: Bearer $PENSTOCK_API_KEY"
{{- if dig "dashboard" "enabled" true $config }}

The dashboard, where holders of keys sign in with their key:
  {{ $url }}/app
{{- end }}

State:
  kubectl -n {{ .Release.Namespace }} exec {{ $workload }} -c penstock -- penstock status

Good to know:
{{- if $facts.scaled }}
- {{ int $facts.least }} to {{ int $facts.most }} pods. Each ends within {{ int64 $facts.grace }} seconds, after its streams.
{{- else }}
- {{ int $facts.replicas }} {{ ternary "pod" "pods" (eq (int $facts.replicas) 1) }}. Each ends within {{ int64 $facts.grace }} seconds, after its streams.
{{- end }}
{{- if and $facts.sqlite $facts.claim }}
- One pod, since keys and ledger are in SQLite, in the claim {{ ternary (printf "state-%s-0" $name) (default $name .Values.persistence.existingClaim) $facts.stateful }}. `helm uninstall` leaves the claim.
{{- else if $facts.sqlite }}
- WARNING: keys and ledger are in a folder of the pod, and are lost with it: persistence.enabled is false.
{{- else if $facts.claim }}
- The journal of each pod is in a volume of its own: ledger rows survive a pod that is deleted while the database is away.
{{- else }}
- The journal is in a folder of the pod: ledger rows survive a crash of the container, not a pod that is deleted while the database is away. Where money depends on it, set workload.kind to StatefulSet; else alert on PenstockLedgerRowsWaiting (metrics.rules).
{{- end }}
{{- if and $facts.memory (not $facts.sqlite) }}
- One pod, since limits are counted in memory. For several, set config.store.counters to a Redis.
{{- end }}
{{- if and (gt (int $facts.most) 1) (hasPrefix "file:" (dig "store" "objects" "" $config)) }}
- WARNING: files of callers are in a folder of each pod, and other pods do not find them. Set config.store.objects to a bucket.
{{- end }}
{{- if eq $facts.migration "job" }}
- The Job {{ $name }}-migration migrates the database before each install and upgrade.
{{- else if eq $facts.migration "init" }}
- Each pod migrates the database before it starts.
{{- else if not $facts.sqlite }}
- Nothing migrates the database: run `penstock migrate` before each upgrade.
{{- end }}
{{- $drain := include "penstock.milliseconds" (dig "server" "drain" "10m" $config) | float64 }}
{{- range $config.upstreams }}
{{- if gt (include "penstock.milliseconds" (get . "total_timeout" | default "30m") | float64) $drain }}
- WARNING: a request at {{ .name }} may last {{ get . "total_timeout" | default "30m" }}, longer than config.server.drain. One that still runs then ends with an error when its pod is replaced.
{{- end }}
{{- end }}
{{- if .Values.httpRoute.enabled }}
- A controller of the Gateway API may end a stream that is silent (Envoy Gateway after 300 s, in its BackendTrafficPolicy or ClientTrafficPolicy). Penstock sends a ping after {{ dig "server" "ping_interval" "12s" $config }} of silence{{ if has (dig "server" "ping_interval" "12s" $config | toString) (list "0" "0s") }}: WARNING, none{{ end }}.
{{- end }}
{{- if and (eq .Values.service.type "LoadBalancer") (ne .Values.service.externalTrafficPolicy "Local") (not $config.server.trusted_proxies) }}
- WARNING: clients come with the address of a node, and share its limits. Set service.externalTrafficPolicy to Local.
{{- end }}
{{- if .Values.acceptUntrustedProxy }}
- WARNING: all clients have the address of the proxy, and share its limits: config.server.trusted_proxies is empty.
{{- end }}
{{- if .Values.existingConfig }}
- The configuration is the ConfigMap {{ .Values.existingConfig }}. Restart the pods when it changes what needs a restart.
{{- end }}
{{- if not (or .Values.existingConfig $config.models) }}
- WARNING: config.models is empty, so there is nothing to call.
{{- end }}
{{- end }}
