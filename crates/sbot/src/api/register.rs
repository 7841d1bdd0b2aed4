//! How a namespace hands its methods to the registry: parse the arguments, call the handler, turn its failure into an
//! error on the wire.

/// A method with one answer: `answer!(registry, ctx, sync, "name", |ctx, args| handler)`.
macro_rules! answer {
    ($registry:expr, $ctx:expr, $kind:ident, $name:literal, |$c:pat_param, $args:pat_param| $work:expr) => {{
        let ctx = ::std::sync::Arc::clone($ctx);
        $registry.$kind($name, move |call: ::sbot_rpc::Call<$crate::api::Caller>| {
            let ctx = ::std::sync::Arc::clone(&ctx);
            async move {
                let $c = &*ctx;
                let $args = &$crate::api::args::Args::parse(&call.args)?;
                let answer: Result<::sbot_rpc::Body, $crate::api::Failure> = $work;
                Ok(answer?)
            }
        })
    }};
}

/// A stream to the caller: `source!(registry, ctx, "name", |ctx, caller, args, out| handler)`.
macro_rules! source {
    ($registry:expr, $ctx:expr, $name:literal, |$c:pat_param, $caller:pat_param, $args:pat_param, $out:ident| $work:expr) => {{
        let ctx = ::std::sync::Arc::clone($ctx);
        $registry.source($name, move |call: ::sbot_rpc::Call<$crate::api::Caller>, mut $out: ::sbot_rpc::Outlet| {
            let ctx = ::std::sync::Arc::clone(&ctx);
            async move {
                let ($c, $caller) = (&*ctx, &call.caller);
                let $args = &$crate::api::args::Args::parse(&call.args)?;
                let $out = &mut $out;
                $crate::api::ended($work)
            }
        })
    }};
}

pub(super) use {answer, source};
