//! The S3 server of the tests under keys as long as real ones.
//!
//! `s3s-fs` keeps a note beside each object in a file whose name holds the whole key, which the file system limits to about 130
//! characters of key; three UIDs are longer. So long segments of a key are replaced by digests on their way in, and put back
//! in listings. It also answers with errors where a test wants them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput,
    PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;

/// Longer segments are replaced.
const LONGEST: usize = 32;

/// Which operations fail, by the names of S3, how and how many times more.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<HashMap<&'static str, (S3ErrorCode, usize)>>>);

impl Faults {
    /// Makes an operation such as `put_object` fail so many times.
    pub fn set(&self, operation: &'static str, code: S3ErrorCode, times: usize) {
        self.0.lock().unwrap().insert(operation, (code, times));
    }

    /// Lets everything succeed again.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn check(&self, operation: &str) -> S3Result<()> {
        match self.0.lock().unwrap().get_mut(operation) {
            Some((code, times)) if *times > 0 => {
                *times -= 1;
                Err(S3Error::with_message(code.clone(), "as the test wants it"))
            }
            _ => Ok(()),
        }
    }
}

/// The server's back end.
pub struct ShortKeys {
    inner: FileSystem,
    faults: Faults,
    /// Digests and what they stand for.
    long: Mutex<HashMap<String, String>>,
}

impl ShortKeys {
    pub fn new(inner: FileSystem, faults: Faults) -> Self {
        Self { inner, faults, long: Mutex::default() }
    }

    fn shorten(&self, key: &mut String) {
        let segments: Vec<String> = key.split('/').map(|segment| self.short(segment)).collect();
        *key = segments.join("/");
    }

    fn short(&self, segment: &str) -> String {
        if segment.len() <= LONGEST {
            return segment.to_owned();
        }
        let digest = blake3::hash(segment.as_bytes()).to_hex()[..LONGEST].to_owned();
        self.long.lock().unwrap().insert(digest.clone(), segment.to_owned());
        digest
    }

    fn lengthen(&self, key: &mut String) {
        let long = self.long.lock().unwrap();
        let segments: Vec<&str> =
            key.split('/').map(|segment| long.get(segment).map_or(segment, String::as_str)).collect();
        *key = segments.join("/");
    }
}

macro_rules! by_key {
    ($($method:ident: $input:ident => $output:ident),* $(,)?) => {
        #[async_trait::async_trait]
        impl S3 for ShortKeys {
            $(async fn $method(&self, mut request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.faults.check(stringify!($method))?;
                self.shorten(&mut request.input.key);
                self.inner.$method(request).await
            })*

            async fn delete_objects(&self, mut request: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
                for object in &mut request.input.delete.objects {
                    self.shorten(&mut object.key);
                }
                let mut response = self.inner.delete_objects(request).await?;
                for key in response.output.deleted.iter_mut().flatten().filter_map(|deleted| deleted.key.as_mut()) {
                    self.lengthen(key);
                }
                Ok(response)
            }

            async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
                self.inner.head_bucket(request).await
            }

            async fn list_objects_v2(&self, mut request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
                if let Some(prefix) = &mut request.input.prefix {
                    self.shorten(prefix);
                }
                let mut response = self.inner.list_objects_v2(request).await?;
                let output = &mut response.output;
                for object in output.contents.iter_mut().flatten() {
                    object.key.iter_mut().for_each(|key| self.lengthen(key));
                }
                for folder in output.common_prefixes.iter_mut().flatten() {
                    folder.prefix.iter_mut().for_each(|key| self.lengthen(key));
                }
                Ok(response)
            }
        }
    };
}

by_key! {
    get_object: GetObjectInput => GetObjectOutput,
    head_object: HeadObjectInput => HeadObjectOutput,
    put_object: PutObjectInput => PutObjectOutput,
    delete_object: DeleteObjectInput => DeleteObjectOutput,
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput,
    upload_part: UploadPartInput => UploadPartOutput,
    list_parts: ListPartsInput => ListPartsOutput,
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput,
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput,
}
