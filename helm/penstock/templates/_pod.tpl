{{/* The parts of a pod that the gateway, its migration and its test have in common. */}}

{{- define "penstock.podSecurity" -}}
{{- $context := deepCopy .root.Values.podSecurityContext -}}
{{- with .user -}}
{{- $context = merge (dict "runAsUser" . "runAsGroup" . "fsGroup" .) $context -}}
{{- end -}}
{{- if .root.Values.openshift }}{{ $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}{{ end -}}
{{- toYaml $context -}}
{{- end }}

{{- define "penstock.containerSecurity" -}}
{{- toYaml (ternary (omit .Values.securityContext "runAsUser" "runAsGroup") .Values.securityContext .Values.openshift) -}}
{{- end }}

{{/* What every pod has. automount: of the service account's token. affinity: whether its rules hold
for this pod. user: of its image, in place of Penstock's. */}}
{{- define "penstock.podBase" -}}
automountServiceAccountToken: {{ .automount | default false }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
securityContext:
  {{- include "penstock.podSecurity" . | nindent 2 }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .affinity .root.Values.affinity }}
affinity:
  {{- toYaml .root.Values.affinity | nindent 2 }}
{{- end }}
{{- end }}

{{/* Image, environment, security and mounts of a container that runs Penstock.
suffix: of the objects that it refers to. */}}
{{- define "penstock.containerBase" -}}
image: {{ include "penstock.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "penstock.containerSecurity" .root | nindent 2 }}
env:
  {{- include "penstock.env" .root | nindent 2 }}
{{- $secret := include "penstock.envSecret" . }}
{{- if or $secret .root.Values.extraEnvFrom }}
envFrom:
  {{- with $secret }}
  - secretRef:
      name: {{ . | quote }}
  {{- end }}
  {{- with .root.Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/penstock
    readOnly: true
  - name: state
    mountPath: /var/lib/penstock
  - name: tmp
    mountPath: /tmp
  {{- if include "penstock.filesSecret" . }}
  - name: secrets
    mountPath: /run/secrets/penstock
    readOnly: true
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Variables of a container that runs Penstock. Later ones may refer to earlier ones. */}}
{{- define "penstock.env" -}}
- name: PENSTOCK_CONFIG
  value: /etc/penstock/penstock.json
{{- if .Values.redis.bundled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ default (printf "%s-redis" (include "penstock.fullname" .)) .Values.redis.existingSecret | quote }}
      key: password
- name: PENSTOCK_COUNTERS
  value: redis://:$(REDIS_PASSWORD)@{{ include "penstock.fullname" . }}-redis:6379/0
{{- end }}
{{- if .Values.postgresql.bundled }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ default (printf "%s-postgresql" (include "penstock.fullname" .)) .Values.postgresql.existingSecret | quote }}
      key: password
- name: PENSTOCK_SQL
  value: postgresql://penstock:$(POSTGRES_PASSWORD)@{{ include "penstock.fullname" . }}-postgresql:5432/penstock
{{- end }}
{{- if and (dig "tracing" "endpoint" "" (include "penstock.config" . | fromJson)) (not (include "penstock.hasOtel" .)) }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ .Release.Namespace }},k8s.pod.name=$(POD_NAME),k8s.container.name=penstock
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* "yes" where the operator sets what spans say of the pod. */}}
{{- define "penstock.hasOtel" -}}
{{- range .Values.extraEnv }}{{ if has .name (list "POD_NAME" "OTEL_RESOURCE_ATTRIBUTES") }}yes{{ end }}{{ end -}}
{{- end }}

{{/* The volumes of those mounts. state: the claim to mount, "" for an empty folder, "template" where
a StatefulSet makes the claim. */}}
{{- define "penstock.volumes" -}}
- name: config
  configMap:
    name: {{ include "penstock.configMap" . | quote }}
{{- if ne .state "template" }}
- name: state
  {{- if .state }}
  persistentVolumeClaim:
    claimName: {{ .state | quote }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmp.sizeLimit }}
    {{- with .root.Values.tmp.medium }}
    medium: {{ . }}
    {{- end }}
{{- with include "penstock.filesSecret" . }}
- name: secrets
  secret:
    secretName: {{ . | quote }}
    defaultMode: 288 # 0440, which not every reader of YAML takes for octal
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "penstock.probe" -}}
{{- toYaml (merge (dict "httpGet" (dict "path" .path "port" "http")) (deepCopy .values)) -}}
{{- end }}

{{/* The pod of the gateway: labels, annotations and spec. */}}
{{- define "penstock.pod" -}}
{{- $facts := include "penstock.facts" . | fromJson -}}
{{- $names := dict "root" . "suffix" "" "part" "" -}}
{{- $state := "" -}}
{{- if and $facts.claim $facts.stateful }}{{ $state = "template" -}}
{{- else if $facts.claim }}{{ $state = default (include "penstock.fullname" .) .Values.persistence.existingClaim }}{{ end -}}
metadata:
  labels:
    {{- include "penstock.podLabels" $names | nindent 4 }}
  annotations:
    {{- toYaml (merge (dict "checksum/restart" (include "penstock.restart" .)) .Values.podAnnotations) | nindent 4 }}
spec:
  {{- include "penstock.podBase" (dict "root" . "automount" .Values.serviceAccount.automount "affinity" true) | nindent 2 }}
  serviceAccountName: {{ include "penstock.serviceAccount" . | quote }}
  terminationGracePeriodSeconds: {{ int64 $facts.grace }}
  {{- if kindIs "invalid" .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "penstock.selector" $names | nindent 10 }}
      matchLabelKeys: [{{ ternary "controller-revision-hash" "pod-template-hash" $facts.stateful }}]
    {{- end }}
  {{- else if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- end }}
  {{- if eq $facts.migration "init" }}
  initContainers:
    - name: migrate
      args: [migrate]
      {{- include "penstock.containerBase" $names | nindent 6 }}
      resources:
        {{- toYaml .Values.migration.resources | nindent 8 }}
  {{- end }}
  containers:
    - name: penstock
      args: [serve]
      {{- include "penstock.containerBase" $names | nindent 6 }}
      ports:
        - name: http
          containerPort: {{ int $facts.port }}
          protocol: TCP
      startupProbe:
        {{- include "penstock.probe" (dict "path" "/livez" "values" .Values.probes.startup) | nindent 8 }}
      readinessProbe:
        {{- include "penstock.probe" (dict "path" "/readyz" "values" .Values.probes.readiness) | nindent 8 }}
      livenessProbe:
        {{- include "penstock.probe" (dict "path" "/livez" "values" .Values.probes.liveness) | nindent 8 }}
      {{- with .Values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "penstock.volumes" (merge (dict "state" $state) $names) | nindent 4 }}
{{- end }}

{{/* The spec of a claim, from values with `size`, `storageClass` and `accessModes`. */}}
{{- define "penstock.claim" -}}
accessModes: {{ .accessModes | default (list "ReadWriteOnce") | toJson }}
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
