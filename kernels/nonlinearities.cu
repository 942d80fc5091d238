// nonlinearities.cu -- y = act(z + b) and its gradient (minitorch_flux/ops/nonlinearities.py).
//
// A build is for one activation, the constant ACT: see activations.h.
//
//   bias_act_forward       y[n,c,i] = act(z[n,c,i] + b[c])    rows = N * channels, width = inner
//   bias_act_forward_last  y[n,c] = act(z[n,c] + b[c])        rows = N, width = channels
//   activation_forward     y = act(z), n elements
//   activation_backward    dz = dy act'(s), n elements
//   bias_backward_planes   sums[n,c] = sum over i of dz[n,c,i]                rows = N * channels
//   bias_backward          db[c] = sum over n of sums[n,c]                    rows = channels
//
// All outputs are written (=). y may be z, and dz may be dy.
#include "flux.h"
#include "activations.h"
// constants: ACT=identity
// constants: ACT=sigmoid
// constants: ACT=hardsigmoid
// constants: ACT=logsigmoid
// constants: ACT=hardtanh
// constants: ACT=tanh
// constants: ACT=relu
// constants: ACT=leakyrelu
// constants: ACT=relu6
// constants: ACT=elu
// constants: ACT=gelu
// constants: ACT=gelu_erf
// constants: ACT=swish
// constants: ACT=hardswish
// constants: ACT=lisht
// constants: ACT=selu
// constants: ACT=celu
// constants: ACT=softplus
// constants: ACT=softsign
// constants: ACT=logcosh
// constants: ACT=mish
// constants: ACT=tanhshrink
// constants: ACT=softshrink
// constants: ACT=hardshrink
// constants: ACT=trelu

KERNEL(bias_act_forward)(const T* z, const T* b, T* y, ACC p, long long rows, int channels, int inner) {
    ROWS(r, rows, inner) {
        const ACC shift = ACC(b[r % channels]);
        LANES(i, inner) y[r * inner + i] = T(act::ACT::f(ACC(z[r * inner + i]) + shift, p));
    }
}

KERNEL(bias_act_forward_last)(const T* z, const T* b, T* y, ACC p, long long rows, int channels) {
    ROWS(r, rows, channels) {
        LANES(c, channels) y[r * channels + c] = T(act::ACT::f(ACC(z[r * channels + c]) + ACC(b[c]), p));
    }
}

KERNEL(activation_forward)(const T* z, T* y, ACC p, long long n) {
    EACH(i, n) y[i] = T(act::ACT::f(ACC(z[i]), p));
}

KERNEL(activation_backward)(const T* dy, const T* s, T* dz, ACC p, long long n) {
    EACH(i, n) dz[i] = T(act::ACT::df(ACC(dy[i]), ACC(s[i]), p));
}

KERNEL(bias_backward_planes)(const T* __restrict__ dz, ACC* __restrict__ sums, long long rows, int inner) {
    ROWS(r, rows, inner) {
        ACC sum = 0;
        LANES_SUM(sum, i, inner) sum += ACC(dz[r * inner + i]);
        sum = row_sum(sum);
        ONE_LANE sums[r] = sum;
    }
}

KERNEL(bias_backward)(const ACC* __restrict__ sums, T* __restrict__ db, int outer, int channels) {
    ROWS(c, channels, outer) {
        ACC sum = 0;
        LANES_SUM(sum, n, outer) sum += sums[(long long)n * channels + c];
        sum = row_sum(sum);
        ONE_LANE db[c] = T(sum);
    }
}
