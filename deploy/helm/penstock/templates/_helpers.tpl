{{- define "penstock.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "penstock.secret" -}}
{{ .Values.existingSecret | default (printf "%s-secrets" .Release.Name) }}
{{- end }}

{{- define "penstock.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- /* What the API's and the workers' pods have in common. */ -}}
{{- define "penstock.pod" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: config
    configMap: {name: {{ .Release.Name }}-config}
  - name: tmp
    emptyDir: {}
{{- end }}

{{- define "penstock.container" -}}
image: {{ include "penstock.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  # The folder, not the file in it: only so an edit reaches running pods.
  - {name: config, mountPath: /etc/penstock, readOnly: true}
  - {name: tmp, mountPath: /tmp}
envFrom:
  - secretRef: {name: {{ include "penstock.secret" . }}}
{{- end }}

{{- define "penstock.environment" -}}
- {name: PENSTOCK_CONFIG, value: /etc/penstock/penstock.yaml}
- {name: PENSTOCK_LOG, value: json}
- {name: PENSTOCK_MAX_JOBS, value: {{ .Values.worker.maxJobs | quote }}}
- {name: PENSTOCK_DRAIN_S, value: {{ .Values.worker.drainSeconds | quote }}}
{{- if .Values.valkey.enabled }}
- {name: REDIS_URL, value: "redis://{{ .Release.Name }}-valkey:6379/0"}
{{- end }}
{{- end }}
