{{/* Sentences about values that do not fit together, as a JSON list under `faults`. */}}
{{- define "penstock.faults" -}}
{{- $config := include "penstock.config" . | fromJson -}}
{{- $facts := include "penstock.facts" . | fromJson -}}
{{- $server := $config.server -}}
{{- $store := $config.store -}}
{{- $faults := list -}}

{{- if gt (include "penstock.config" . | fromJson | toPrettyJson | len) 921600 -}}
{{- $faults = append $faults "config: is larger than 900 KiB, and a ConfigMap holds 1 MiB; split the installation" -}}
{{- end -}}
{{- if or (has $server.host (list "localhost" "::1")) (hasPrefix "127." $server.host) -}}
{{- $faults = append $faults (printf "config.server.host: %s is reached from inside the pod only; expected \"0.0.0.0\" or \"::\", or leave it out" $server.host) -}}
{{- end -}}
{{- if not $facts.port -}}
{{- $faults = append $faults "config.server.port: 0 takes a free port, which no Service and no probe finds; expected 1 to 65535" -}}
{{- end -}}

{{- range $key, $scheme := dict "sql" "sqlite:///" "objects" "file:" "journal" "" -}}
{{- $value := get $store $key | default (printf "%svar" $scheme) -}}
{{- if and (hasPrefix $scheme $value) (not (hasPrefix "env:" $value)) (not (hasPrefix "/" (trimPrefix $scheme $value))) -}}
{{- $faults = append $faults (printf "config.store.%s: %s is relative to /etc/penstock, which is read-only; expected a path below /var/lib/penstock, such as \"%s/var/lib/penstock/%s\"" $key $value $scheme (ternary "penstock.db" $key (eq $key "sql"))) -}}
{{- end -}}
{{- end -}}

{{- $fullname := include "penstock.fullname" . -}}
{{- if not (regexMatch "^[a-z][a-z0-9-]*$" $fullname) -}}
{{- $faults = append $faults (printf "fullnameOverride: the name %s would be refused by Kubernetes; expected lowercase letters, digits and -, with a letter first" $fullname) -}}
{{- end -}}
{{- if not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$" (include "penstock.name" .)) -}}
{{- $faults = append $faults (printf "nameOverride: %s is no value of a label; expected letters, digits, - _ and ., with a letter or digit first and last" (include "penstock.name" .)) -}}
{{- end -}}
{{- if and .Values.serviceAccount.create (eq .Values.serviceAccount.name (printf "%s-migration" $fullname)) -}}
{{- $faults = append $faults (printf "serviceAccount.name: %s is the account of the migration; choose another" .Values.serviceAccount.name) -}}
{{- end -}}

{{- $several := "" -}}
{{- if .Values.keda.enabled }}{{ $several = "keda" -}}
{{- else if .Values.autoscaling.enabled }}{{ $several = "autoscaling" -}}
{{- else if gt (int $facts.replicas) 1 }}{{ $several = printf "replicas: %d pods" (int $facts.replicas) }}{{ end -}}
{{- if and $facts.sqlite $several -}}
{{- $faults = append $faults (printf "%s need one database: set config.store.sql to a PostgreSQL, by a variable such as \"env:PENSTOCK_SQL\", or replicas to 1" (ternary $several (printf "%s: several pods" $several) (hasPrefix "replicas" $several))) -}}
{{- end -}}
{{- if and $facts.memory $several -}}
{{- $faults = append $faults (printf "%s would each allow the whole of every limit and budget: set config.store.counters to a Redis, by a variable such as \"env:PENSTOCK_COUNTERS\", or replicas to 1" (ternary $several (printf "%s: several pods" $several) (hasPrefix "replicas" $several))) -}}
{{- end -}}
{{- if and $facts.memory (gt (int $facts.workers) 1) -}}
{{- $faults = append $faults (printf "config.server.workers: %d workers would each allow the whole of every limit and budget: set config.store.counters to a Redis, or workers to 1" (int $facts.workers)) -}}
{{- end -}}
{{- if lt (int64 $facts.grace) (int64 $facts.needed) -}}
{{- $faults = append $faults (printf "terminationGracePeriodSeconds: %d would kill requests that may still run; expected at least %d, the sum of config.server.drain, config.server.drain_delay and drain.extra" (int64 $facts.grace) (int64 $facts.needed)) -}}
{{- end -}}

{{- if and .Values.persistence.existingClaim $facts.stateful -}}
{{- $faults = append $faults "persistence.existingClaim: a StatefulSet makes a claim for each pod; leave it empty, or set workload.kind to Deployment" -}}
{{- end -}}

{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- $faults = append $faults "autoscaling.enabled: KEDA makes an autoscaler of its own; enable autoscaling or keda, not both" -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $it := get $.Values $name -}}
{{- if and $it.enabled (gt (int $it.min) (int $it.max)) -}}
{{- $faults = append $faults (printf "%s.min: %d is more than %s.max, which is %d" $name (int $it.min) $name (int $it.max)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.cpu) (not .Values.autoscaling.streams) -}}
{{- $faults = append $faults "autoscaling.cpu: expected a figure for cpu or streams; with neither there is nothing to scale by" -}}
{{- end -}}
{{- if and .Values.keda.enabled (not .Values.keda.prometheus.serverAddress) (not .Values.keda.triggers) -}}
{{- $faults = append $faults "keda.triggers: expected keda.prometheus.serverAddress or a trigger; with neither there is nothing to scale by" -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- $faults = append $faults "metrics.serviceMonitor.enabled: Prometheus would count every pod twice; enable podMonitor or serviceMonitor" -}}
{{- end -}}

{{- range $name := list "ingress" "httpRoute" -}}
{{- if and (get $.Values $name).enabled (not $server.trusted_proxies) (not $.Values.acceptUntrustedProxy) -}}
{{- $faults = append $faults (printf "%s.enabled: all clients would have the address of the proxy, and share its limits; set config.server.trusted_proxies to the network of the controller's pods, such as [\"10.0.0.0/8\"], or acceptUntrustedProxy to true" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $faults = append $faults "ingress.hosts: expected at least one, such as [{host: llm.example.com}]" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $faults = append $faults "httpRoute.parentRefs: expected at least one Gateway, such as [{name: public, namespace: gateways}]" -}}
{{- end -}}

{{- if not .Values.secrets.create -}}
{{- range $key, $existing := dict "env" .Values.secrets.existingSecret "files" .Values.secrets.existingFiles -}}
{{- if and (get $.Values.secrets $key) (not $existing) -}}
{{- $faults = append $faults (printf "secrets.%s: has values that no Secret carries, since secrets.create is false; name a Secret of yours in secrets.%s, or leave them out" $key (ternary "existingSecret" "existingFiles" (eq $key "env"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $name, $key := dict "redis" "counters" "postgresql" "sql" -}}
{{- $it := get $.Values $name -}}
{{- $given := get ($.Values.config.store | default dict) $key | default "" -}}
{{- if $it.bundled -}}
{{- if not (or $it.password $it.existingSecret) -}}
{{- $faults = append $faults (printf "%s.password: is missing, and the chart invents none; set it, or %s.existingSecret to a Secret with the key password" $name $name) -}}
{{- end -}}
{{- if not (has $given (list "" "memory" "sqlite:////var/lib/penstock/penstock.db" (printf "env:PENSTOCK_%s" (upper $key)))) -}}
{{- $faults = append $faults (printf "%s.bundled: the bundled store would replace config.store.%s; leave that out, or set %s.bundled to false" $name $key $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if not .Values.existingConfig -}}
{{- $faults = concat $faults ((include "penstock.secretFaults" . | fromJson).faults | default list) -}}
{{- end -}}
{{- $faults = concat $faults ((include "penstock.duplicates" . | fromJson).faults | default list) -}}
{{- toJson (dict "faults" $faults) -}}
{{- end }}

{{/* Secrets written into the configuration, and variables and files that it names and nothing sets. */}}
{{- define "penstock.secretFaults" -}}
{{- $config := include "penstock.config" . | fromJson -}}
{{- $faults := list -}}
{{- range .Files.Get "files/secret-paths.json" | fromJsonArray -}}
{{- $found := include "penstock.literals" (dict "value" $config "parts" (splitList "." .) "path" "config") | fromJson -}}
{{- range $found.paths -}}
{{- $faults = append $faults (printf "%s: anyone who may read ConfigMaps could read it; put it into secrets.env, and name it here as \"env:NAME\"" .) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "sql" "counters" -}}
{{- if regexMatch "^[^/]*//([^/]*:[^/]*@|.*[?&](ssl)?password=)" (get $config.store $key | default "") -}}
{{- $faults = append $faults (printf "config.store.%s: has a password, which anyone who may read ConfigMaps could read; put it into secrets.env, and name it here as \"env:NAME\"" $key) -}}
{{- end -}}
{{- end -}}
{{- range $n, $upstream := $config.upstreams -}}
{{- if contains "@" (get $upstream "proxy" | default "") -}}
{{- $faults = append $faults (printf "config.upstreams[%d].proxy: has a password, which anyone who may read ConfigMaps could read; put it into secrets.env, and name it here as \"env:NAME\"" $n) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.secrets.existingSecret .Values.extraEnvFrom) -}}
{{- $set := keys .Values.secrets.env -}}
{{- range include "penstock.env" . | fromYamlArray }}{{ $set = append $set .name }}{{ end -}}
{{- range regexFindAll "\"env:[^\"]+\"" (toJson $config) -1 | uniq | sortAlpha -}}
{{- $name := trimAll "\"" . | trimPrefix "env:" -}}
{{- if not (has $name $set) -}}
{{- $faults = append $faults (printf "config: names the environment variable %s, which nothing sets; add it to secrets.env or extraEnv, or name the Secret that has it in secrets.existingSecret" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.secrets.existingFiles .Values.extraVolumeMounts) -}}
{{- range regexFindAll "\"file:/run/secrets/penstock/[^\"]+\"" (toJson $config) -1 | uniq | sortAlpha -}}
{{- $name := trimAll "\"" . | trimPrefix "file:/run/secrets/penstock/" -}}
{{- if not (hasKey $.Values.secrets.files $name) -}}
{{- $faults = append $faults (printf "config: names the file %s, which nothing brings; add %s to secrets.files, or name the Secret that has it in secrets.existingFiles" (printf "/run/secrets/penstock/%s" $name) $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "faults" $faults) -}}
{{- end }}

{{/* Paths below `value` that lead along `parts` to a text that is no reference, under `paths`.
A part that ends in "[]" is a list; "{}" stands for the values of a map whose keys name credentials. */}}
{{- define "penstock.literals" -}}
{{- $paths := list -}}
{{- $path := .path -}}
{{- if not .parts -}}
{{- if and (kindIs "string" .value) (not (regexMatch "^(env|file):" .value)) }}{{ $paths = append $paths $path }}{{ end -}}
{{- else -}}
{{- $part := first .parts -}}
{{- $rest := rest .parts -}}
{{- if and (eq $part "{}") (kindIs "map" .value) -}}
{{- range $key, $inner := .value -}}
{{- if regexMatch "(?i)auth|key|token|secret|password|cookie" $key -}}
{{- $found := include "penstock.literals" (dict "value" $inner "parts" $rest "path" (printf "%s.%s" $path $key)) | fromJson -}}
{{- $paths = concat $paths ($found.paths | default list) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "map" .value -}}
{{- $key := trimSuffix "[]" $part -}}
{{- $inner := get .value $key -}}
{{- if and (ne $key $part) (kindIs "slice" $inner) -}}
{{- range $n, $each := $inner -}}
{{- $found := include "penstock.literals" (dict "value" $each "parts" $rest "path" (printf "%s.%s[%d]" $path $key $n)) | fromJson -}}
{{- $paths = concat $paths ($found.paths | default list) -}}
{{- end -}}
{{- else if and (eq $key $part) (hasKey .value $key) -}}
{{- $found := include "penstock.literals" (dict "value" $inner "parts" $rest "path" (printf "%s.%s" $path $key)) | fromJson -}}
{{- $paths = concat $paths ($found.paths | default list) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "paths" $paths) -}}
{{- end }}

{{/* Names that stand twice in a pod: server-side apply refuses them. */}}
{{- define "penstock.duplicates" -}}
{{- $spec := (include "penstock.pod" . | fromYaml).spec -}}
{{- $faults := list -}}
{{- $containers := concat $spec.containers ($spec.initContainers | default list) -}}
{{- range $where, $names := dict "extraContainers" $containers "extraVolumes" $spec.volumes -}}
{{- $seen := list -}}
{{- range $names -}}
{{- if has .name $seen -}}
{{- $faults = append $faults (printf "%s: the name %s stands twice in a pod; choose another" $where .name) -}}
{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- end -}}
{{- $ports := list -}}
{{- $numbers := list -}}
{{- range $spec.containers -}}
{{- $container := .name -}}
{{- range .ports -}}
{{- if or (and .name (has .name $ports)) (has (int .containerPort) $numbers) -}}
{{- $faults = append $faults (printf "extraContainers: %s: the port %v stands twice in a pod; choose another" $container (default (int .containerPort) .name)) -}}
{{- end -}}
{{- $ports = append $ports .name -}}
{{- $numbers = append $numbers (int .containerPort) -}}
{{- end -}}
{{- $where := ternary "extraEnv" (printf "extraContainers: %s" $container) (eq $container "penstock") -}}
{{- $seen := list -}}
{{- range .env -}}
{{- if has .name $seen -}}
{{- $faults = append $faults (printf "%s: the variable %s is set twice; leave one out" $where .name) -}}
{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- $where := ternary "extraVolumeMounts" (printf "extraContainers: %s" $container) (eq $container "penstock") -}}
{{- $seen := list -}}
{{- range .volumeMounts -}}
{{- if has .mountPath $seen -}}
{{- $faults = append $faults (printf "%s: %s is mounted twice; choose another path" $where .mountPath) -}}
{{- end -}}
{{- $seen = append $seen .mountPath -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "faults" $faults) -}}
{{- end }}
